"""The gRPC server: its options, its methods, its start and its stop. It runs on the event loop of everything else."""

from __future__ import annotations

import logging
from typing import Any

import grpc

from server.api.clients import Clients
from server.api.guard import Guard
from server.api.keys import Keys
from server.api.shared_memory import Regions
from server.grpc_api.control import Control
from server.grpc_api.generate import Generation
from server.grpc_api.health import Health
from server.grpc_api.infer import Inference
from server.grpc_api.keys import KeyCheck
from server.grpc_api.messages import HEALTH_SERVICE, INFERENCE_SERVICE
from server.grpc_api.stream import StreamInference
from server.runtime.engine import Engine
from server.runtime.registry import Registry

log = logging.getLogger(__name__)

INT32_MAX = 2**31 - 1

HARD_LIMIT = 2
"""Messages of up to so many times max_body_bytes are refused in our words; a larger one the library refuses unread."""


class PortTaken(OSError):
    """The port cannot be listened on; the message names it and the way out."""


class GrpcFront:
    """One listening gRPC server. Bound when it is made, answers after start()."""

    def __init__(
        self, host: str, port: int, engine: Engine, registry: Registry, guard: Guard, max_body_bytes: int,
        idle_timeout_s: float, receive_timeout_s: float, regions: Regions | None = None,
        clients: Clients | None = None, keys: Keys | None = None,
    ) -> None:  # fmt: skip
        """`idle_timeout_s` ends connections without a call, `receive_timeout_s` those that do not get as far as HTTP/2;
        `regions` None: shared memory is turned off; `clients`: where somebody rations; `keys`: where calls need one."""
        self._health = Health(registry)
        inference = Inference(engine, registry, max_body_bytes, regions, clients=clients)
        self._streams = StreamInference(inference, Generation(engine, registry))
        checks = [] if keys is None else [KeyCheck(keys)]
        self._server = grpc.aio.server(interceptors=checks, options=_options(max_body_bytes, idle_timeout_s, receive_timeout_s))
        unary = {"ModelInfer": inference.unary, **Control(registry, guard, regions).handlers()}
        methods = {name: grpc.unary_unary_rpc_method_handler(handler) for name, handler in unary.items()}
        methods["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(self._streams.serve)
        health = {
            "Check": grpc.unary_unary_rpc_method_handler(self._health.check),
            "Watch": grpc.unary_stream_rpc_method_handler(self._health.watch),
        }
        self._server.add_generic_rpc_handlers((
            grpc.method_handlers_generic_handler(INFERENCE_SERVICE, methods),
            grpc.method_handlers_generic_handler(HEALTH_SERVICE, health),
        ))  # fmt: skip
        self.address = _bind(self._server, host, port)

    async def start(self) -> None:
        """Take calls."""
        await self._server.start()
        log.info("gRPC running on %s", self.address)

    async def drain(self, timeout_s: float) -> None:
        """Take nothing new, answer what was accepted, end what is left after `timeout_s`. May be called twice."""
        self._health.drain()
        self._streams.drain()
        await self._server.stop(timeout_s)


def _options(max_body_bytes: int, idle_timeout_s: float, receive_timeout_s: float) -> list[tuple[str, Any]]:
    return [
        ("grpc.max_send_message_length", INT32_MAX),
        ("grpc.max_receive_message_length", min(INT32_MAX, HARD_LIMIT * max_body_bytes)),
        ("grpc.so_reuseport", 0),
        ("grpc.max_connection_idle_ms", _milliseconds(idle_timeout_s)),
        ("grpc.server_handshake_timeout_ms", _milliseconds(receive_timeout_s)),
        ("grpc.compression_enabled_algorithms_bitset", 1),  # none: the library unpacks a bomb before it looks at the size
    ]


def _milliseconds(seconds: float) -> int:
    return min(INT32_MAX, max(1, round(seconds * 1000)))


def _bind(server: Any, host: str, port: int) -> str:
    """The address that `server` listens on. Raises PortTaken."""
    place = f"[{host}]" if ":" in host else host
    try:
        return f"{place}:{server.add_insecure_port(f'{place}:{port}')}"
    except RuntimeError as error:
        raise PortTaken(
            f"cannot listen for gRPC on {place}:{port} (address already in use, or not this machine's); choose another port "
            "with --grpc-port, or 'off' for no gRPC"
        ) from error
