"""LitServe: a LitAPI with its own batching, ZeroMQ between its processes."""

from __future__ import annotations

from typing import Any

import litserve

from loadtests.peers.servers.setup import OnnxModel, plain, read_setup

_TIMEOUT_S = 30
"""As by default."""


class Api(litserve.LitAPI):
    """Takes a list of requests when batching is on, one request when it is off."""

    def setup(self, device: str) -> None:
        self._model = OnnxModel(read_setup())

    def decode_request(self, request):  # type: ignore[no-untyped-def]  # LitServe reads an annotation as the body's schema
        return self._model.tensors(request)

    def batch(self, inputs: Any) -> Any:
        return inputs

    def predict(self, inputs: Any) -> Any:
        return self._model.run_many(inputs) if isinstance(inputs, list) else self._model.run(inputs)

    def unbatch(self, output: Any) -> Any:
        return output

    def encode_response(self, output):  # type: ignore[no-untyped-def]
        return plain(output)


if __name__ == "__main__":
    setup = read_setup()
    server = litserve.LitServer(
        Api(max_batch_size=setup.max_batch, batch_timeout=setup.wait_ms / 1e3),
        accelerator="cpu",
        workers_per_device=setup.workers,
        fast_queue=True,
        timeout=setup.timeout_ms / 1e3 if setup.timeout_ms else _TIMEOUT_S,
    )
    server.run(host=setup.host, port=setup.port, generate_client_file=False, log_level="error")
