"""Mosec: one stage of workers behind its Rust front end, JSON by orjson."""

from __future__ import annotations

from typing import Any

import orjson
from mosec import Server, Worker

from loadtests.peers.servers.setup import OnnxModel, read_setup


class Inference(Worker):
    """Takes a list of requests when batching is on, one request when it is off."""

    def __init__(self) -> None:
        super().__init__()
        self._setup = read_setup()
        self._model = OnnxModel(self._setup)

    def deserialize(self, data: bytes) -> Any:
        return orjson.loads(data)

    def serialize(self, data: Any) -> bytes:
        return orjson.dumps(data, option=orjson.OPT_SERIALIZE_NUMPY)

    def forward(self, data: Any) -> Any:
        if self._setup.max_batch == 1:
            return self._model.run(self._model.tensors(data))
        return self._model.run_many([self._model.tensors(one) for one in data])


if __name__ == "__main__":
    setup = read_setup()
    server = Server()
    server.append_worker(Inference, num=setup.workers, max_batch_size=setup.max_batch, max_wait_time=round(setup.wait_ms))
    server.run()
