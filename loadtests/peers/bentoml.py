"""BentoML: a service class, adaptive batching in its own dispatcher."""

from __future__ import annotations

from loadtests.child import HOST
from loadtests.peers.peer import SERVERS, Knob, Launch, Peer, Tuning, Visit, environment, plain_json


def _launch(visit: Visit) -> Launch:
    service = "Sentence" if "input_ids" in visit.model.rows[0] else "Image"
    flags = ["--host", HOST, "--port", str(visit.port), "--quiet", "--do-not-track"]
    command = [str(visit.python), "-m", "bentoml", "serve", f"{SERVERS}.bentoml_server:{service}", *flags]
    return Launch(command, "/readyz", environment(visit, BENTOML_HOME=str(visit.folder / "bentoml")))


BENTOML = Peer(
    name="bentoml",
    label="BentoML",
    package="bentoml",
    requirements=("bentoml==1.4.39", "onnxruntime==1.31.1"),
    candidates={
        "digits": (Tuning(64, workers=2), Tuning(workers=2)),
        "resnet18": (Tuning(8, workers=2), Tuning(workers=2)),
        "minilm": (Tuning(workers=2),),
    },
    settings="production mode, a worker per core; adaptive batching where it is on",
    launch=_launch,
    wire=plain_json("/predict"),
    knobs=(Knob.QUEUE, Knob.TIMEOUT, Knob.BATCH),
)
