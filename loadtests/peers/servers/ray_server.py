"""Ray Serve: a deployment with `serve.batch`; its ingress (HAProxy or Ray's own proxy) is chosen by environment variables."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import orjson
import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

from loadtests.peers.servers.setup import OnnxModel, Tensors, read_setup

_SETUP = read_setup()


_MOST_ONGOING = _SETUP.queue or 1000
_MOST_QUEUED = _SETUP.queue or -1


@serve.deployment(
    num_replicas=_SETUP.workers,
    max_ongoing_requests=_MOST_ONGOING,
    max_queued_requests=_MOST_QUEUED,
    ray_actor_options={"num_cpus": 0.5},
)
class Inference:
    """One replica."""

    def __init__(self) -> None:
        self._model = OnnxModel(_SETUP)

    @serve.batch(max_batch_size=_SETUP.max_batch, batch_wait_timeout_s=_SETUP.wait_ms / 1e3)
    async def run(self, requests: list[Tensors]) -> list[Tensors]:
        return self._model.run_many(requests)

    async def __call__(self, request: Request) -> Response:
        tensors = self._model.tensors(orjson.loads(await request.body()))
        found = self._model.run(tensors) if _SETUP.max_batch == 1 else await self.run(tensors)
        return Response(orjson.dumps(found, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json")


if __name__ == "__main__":
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        _node_ip_address=_SETUP.host,
        _temp_dir=str(Path(os.environ["TMPDIR"]) / "ray"),
    )
    serve.start(http_options={"host": _SETUP.host, "port": _SETUP.port, "access_log": False})
    serve.run(Inference.bind(), route_prefix="/predict")  # type: ignore[attr-defined]  # mypy looks past class decorators
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: stop.set())
    stop.wait()
    ray.shutdown()
