"""MLServer: V2 over FastAPI, adaptive batching, optional worker processes. Its REST side takes no binary tensors."""

from __future__ import annotations

import json

from loadtests.child import HOST, free_port
from loadtests.peers.peer import SERVERS, Knob, Launch, Peer, Tuning, Visit, environment, v2


def _launch(visit: Visit) -> Launch:
    """Write the two files that MLServer reads from its folder."""
    server = {
        "host": HOST,
        "http_port": visit.port,
        "grpc_port": free_port(),
        "metrics_endpoint": None,
        "metrics_dir": str(visit.folder / "metrics"),
        "environments_dir": str(visit.folder / "environments"),
        "parallel_workers": visit.tuning.workers if visit.tuning.workers > 1 else 0,
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
    requirements=("mlserver==1.7.1", "onnxruntime==1.31.1"),
    candidates={
        "digits": (Tuning(64, 1), Tuning()),
        "resnet18": (Tuning(8, 1, threads=2), Tuning(threads=2)),
        "minilm": (Tuning(threads=2),),
    },
    settings="no metrics, no gzip, no debug; one process: its parallel workers do not start with the current uvloop",
    launch=_launch,
    wire=v2,
    knobs=(Knob.BATCH, Knob.WAIT),
)
