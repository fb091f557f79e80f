"""MLServer: V2 over FastAPI, adaptive batching, optional worker processes. Its REST side takes no binary tensors.

Sentences are not joined: a joined request has the numbers of all in one list and the shape of the first, so the model is not told where each one ends.
"""

from __future__ import annotations

import json

from loadtests.child import HOST, free_port
from loadtests.peers.peer import SERVERS, Knob, Launch, Peer, Tuning, Visit, environment, v2


def _launch(visit: Visit) -> Launch:
    """Write the two files that MLServer reads from its folder. Without workers the model runs in its own process, which it calls
    `parallel_workers` 0; a `max_batch_time` of 0 would be batching off."""
    server = {
        "host": HOST,
        "http_port": visit.port,
        "grpc_port": free_port(),
        "metrics_endpoint": None,
        "metrics_dir": str(visit.folder / "metrics"),
        "environments_dir": str(visit.folder / "environments"),
        "parallel_workers": visit.tuning.workers,
        "gzip_enabled": False,
        "debug": False,
    }
    model: dict[str, object] = {"name": visit.model.name, "implementation": f"{SERVERS}.mlserver_runtime.OnnxRuntime"}
    if visit.tuning.max_batch > 1:
        model |= {"max_batch_size": visit.tuning.max_batch, "max_batch_time": visit.tuning.wait_ms / 1e3}
    (visit.folder / "settings.json").write_text(json.dumps(server))
    (visit.folder / "model-settings.json").write_text(json.dumps(model))
    command = [str(visit.python.with_name("mlserver")), "start", str(visit.folder)]
    return Launch(command, f"/v2/models/{visit.model.name}/ready", environment(visit))


MLSERVER = Peer(
    name="mlserver",
    label="MLServer",
    package="mlserver",
    requirements=("mlserver==1.7.1", "onnxruntime==1.31.1", "uvloop==0.21.0"),
    candidates={
        "digits": (
            *(Tuning(64, 1, workers=workers) for workers in (0, 1, 2)),
            *(Tuning(1, 1, workers=workers) for workers in (0, 1, 2)),
        ),
        "resnet18": (
            Tuning(8, 1, workers=0, threads=2),
            Tuning(8, 1, workers=1, threads=2),
            Tuning(8, 1, workers=2),
            Tuning(1, 1, workers=0, threads=2),
            Tuning(1, 1, workers=1, threads=2),
            Tuning(1, 1, workers=2),
        ),
        "minilm": (Tuning(1, 1, workers=0, threads=2), Tuning(1, 1, workers=1, threads=2), Tuning(1, 1, workers=2)),
    },
    settings="no metrics, no gzip, no debug; its parallel workers start with uvloop 0.21 and with none that is newer",
    launch=_launch,
    wire=v2,
    knobs=(Knob.BATCH, Knob.WAIT, Knob.WORKERS),
    waits_ms=(1.0, 2.0, 5.0),
)
