"""LitServe: FastAPI in front of worker processes."""

from __future__ import annotations

from loadtests.peers.peer import SERVERS, Knob, Launch, Peer, Tuning, Visit, environment, plain_json


def _launch(visit: Visit) -> Launch:
    return Launch([str(visit.python), "-m", f"{SERVERS}.litserve_server"], "/health", environment(visit))


LITSERVE = Peer(
    name="litserve",
    label="LitServe",
    package="litserve",
    requirements=("litserve==0.2.19", "onnxruntime==1.31.1"),
    candidates={
        "digits": (Tuning(64, 1), Tuning(64, 1, workers=2), Tuning(workers=2)),
        "resnet18": (Tuning(8, 1, workers=2), Tuning(8, 1, workers=1, threads=2), Tuning(workers=2)),
        "minilm": (Tuning(workers=2), Tuning(4, 1, workers=2), Tuning(8, 1, workers=1, threads=2)),
    },
    settings="fast_queue (ZeroMQ); as many API servers as workers, as by default",
    launch=_launch,
    wire=plain_json("/predict"),
    knobs=(Knob.TIMEOUT, Knob.BATCH, Knob.WAIT),
)
