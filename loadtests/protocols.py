"""The protocols that are spoken, behind one face: how a request is made, how replies are read. Only here do they meet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Protocol as Interface

from loadtests import grpc_wire, wire
from loadtests.http2 import Blocks, CallReader
from loadtests.tensors import Array
from loadtests.wire import Bodies, Heads, Response, ResponseReader


class Reader(Interface):
    """One connection's side of the conversation. `owed` is what it wants sent besides; who sends it empties it."""

    owed: bytes

    @property
    def idle(self) -> bool: ...
    def start(self) -> bytes: ...
    def outgoing(self, request: bytes) -> bytes: ...
    def feed(self, data: bytes) -> Response | None: ...


class Protocol(Enum):
    """`value` is the scheme in a URL."""

    HTTP = "http"
    GRPC = "grpc"

    @property
    def default_port(self) -> int:
        return 8001 if self is Protocol.GRPC else 80

    def readers(self, bodies: Bodies) -> Callable[[], Reader]:
        """Makes the readers of many connections, which remember together."""
        if self is Protocol.GRPC:
            blocks = Blocks()
            return lambda: CallReader(bodies, blocks)
        heads = Heads()
        return lambda: ResponseReader(bodies, heads)

    def infer_request(
        self, host: str, model: str, row: Mapping[str, Array], *, binary: bool, version: str | None, timeout_us: int | None,
        key: str | None = None,
    ) -> bytes:  # fmt: skip
        """One request, whole. Over gRPC tensors are always raw. Raises ValueError for what cannot be sent so."""
        if self is Protocol.GRPC:
            return grpc_wire.infer_request(host, model, row, version=version, timeout_us=timeout_us, key=key)
        return wire.infer_request(host, model, row, binary=binary, version=version, timeout_us=timeout_us, key=key)

    def decode(self, response: Response) -> dict[str, Array]:
        """The outputs of an answer. Raises ServerError, MalformedReply."""
        if self is Protocol.GRPC:
            return grpc_wire.decode(response)
        return wire.decode(response.status, response.headers, response.body)
