"""The endpoint people write by themselves: FastAPI and onnxruntime, nothing else."""

from __future__ import annotations

from loadtests.child import HOST
from loadtests.peers.peer import SERVERS, Knob, Launch, Peer, Tuning, Visit, environment, plain_json


def _launch(visit: Visit) -> Launch:
    flags = ["--host", HOST, "--port", str(visit.port), "--workers", str(visit.tuning.workers), "--log-level", "warning"]
    if visit.tuning.queue:
        flags += ["--limit-concurrency", str(visit.tuning.queue)]
    command = [str(visit.python), "-m", "uvicorn", f"{SERVERS}.fastapi_server:app", "--no-access-log", *flags]
    return Launch(command, "/health", environment(visit))


FASTAPI = Peer(
    name="fastapi",
    label="FastAPI + onnxruntime",
    package="fastapi",
    requirements=("fastapi==0.165.0", "uvicorn[standard]==0.54.0", "onnxruntime==1.31.1"),
    candidates={
        "digits": (Tuning(workers=1), Tuning(workers=2)),
        "resnet18": (Tuning(workers=1, threads=2), Tuning(workers=2)),
        "minilm": (Tuning(workers=1, threads=2), Tuning(workers=2)),
    },
    settings="as people write it: one route, no batching; uvicorn with uvloop and httptools, no access log",
    launch=_launch,
    wire=plain_json("/predict"),
    knobs=(Knob.QUEUE, Knob.WORKERS),
)
