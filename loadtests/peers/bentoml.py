"""BentoML: a service class, adaptive batching in its own dispatcher."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import orjson

from loadtests.child import HOST
from loadtests.peers.peer import SERVERS, Knob, Launch, Model, Peer, Tuning, Visit, environment
from loadtests.peers.wires import PlainJson, Wire
from loadtests.tensors import Array


@dataclass(frozen=True, slots=True)
class Sentences(PlainJson):
    """`{"sentences": [{input: [values]}]}`: what is joined has to be one parameter, so the tensors of a sentence go as one object."""

    def request(self, row: Mapping[str, Array]) -> bytes:
        sentences = [
            dict(zip(row, values, strict=True)) for values in zip(*map(np.ascontiguousarray, row.values()), strict=True)
        ]
        body = orjson.dumps({"sentences": sentences}, option=orjson.OPT_SERIALIZE_NUMPY)
        lines = [f"POST {self.path} HTTP/1.1", f"Host: {HOST}", f"Content-Length: {len(body)}"]
        return "\r\n".join([*lines, "Content-Type: application/json", "", ""]).encode() + body


def _wire(model: Model) -> Wire:
    return (Sentences if _sentences(model) else PlainJson)("/predict", model.outputs)


def _sentences(model: Model) -> bool:
    return "input_ids" in model.rows[0]


def _launch(visit: Visit) -> Launch:
    service = "Sentence" if _sentences(visit.model) else "Image"
    flags = ["--host", HOST, "--port", str(visit.port), "--quiet", "--do-not-track"]
    command = [str(visit.python), "-m", "bentoml", "serve", f"{SERVERS}.bentoml_server:{service}", *flags]
    return Launch(command, "/readyz", environment(visit, BENTOML_HOME=str(visit.folder / "bentoml")))


BENTOML = Peer(
    name="bentoml",
    label="BentoML",
    package="bentoml",
    requirements=("bentoml==1.4.39", "onnxruntime==1.31.1"),
    candidates={
        "digits": (Tuning(64, workers=1), Tuning(64, workers=2), Tuning(workers=2)),
        "resnet18": (Tuning(8, workers=2), Tuning(8, workers=1, threads=2), Tuning(workers=2)),
        "minilm": (Tuning(workers=2), Tuning(4, workers=2), Tuning(8, workers=1, threads=2)),
    },
    settings="production mode; adaptive batching where it is on, which chooses by itself how long it waits",
    launch=_launch,
    wire=_wire,
    knobs=(Knob.QUEUE, Knob.TIMEOUT, Knob.BATCH),
)
