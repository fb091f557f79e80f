"""Mosec: a Rust front end, Python workers behind it."""

from __future__ import annotations

from loadtests.child import HOST
from loadtests.peers.peer import SERVERS, Knob, Launch, Peer, Tuning, Visit, environment, plain_json


def _launch(visit: Visit) -> Launch:
    """`append_worker` takes a wait of less than 1 ms as not given, and then waits what `--wait` says: 10 ms if that is not given either."""
    flags = ["--address", HOST, "--port", str(visit.port), "--log-level", "error"]
    if visit.tuning.queue:
        flags += ["--capacity", str(visit.tuning.queue)]
    if visit.tuning.timeout_ms:
        flags += ["--timeout", str(max(1, round(visit.tuning.timeout_ms)))]
    if round(visit.tuning.wait_ms) < 1:
        flags += ["--wait", "0"]
    return Launch([str(visit.python), "-m", f"{SERVERS}.mosec_server", *flags], "/", environment(visit))


MOSEC = Peer(
    name="mosec",
    label="Mosec",
    package="mosec",
    requirements=("mosec==0.9.8", "onnxruntime==1.31.1", "orjson==3.13.0"),
    candidates={
        "digits": (Tuning(64, 1, workers=1), Tuning(64, 1, workers=2), Tuning(workers=2)),
        "resnet18": (Tuning(8, 1, workers=2), Tuning(8, 1, workers=1, threads=2), Tuning(workers=2)),
        "minilm": (Tuning(workers=2), Tuning(4, 1, workers=2), Tuning(8, 1, workers=1, threads=2)),
    },
    settings="JSON by orjson, one stage; queue of 1024 and timeout of 3 s as by default",
    launch=_launch,
    wire=plain_json("/inference"),
    knobs=(Knob.QUEUE, Knob.TIMEOUT, Knob.BATCH, Knob.WAIT, Knob.WORKERS),
)
