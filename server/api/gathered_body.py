"""A request body of known length that comes in many reads, put together where it stays: nothing is joined afterwards, and of a
large one the kernel's copy is the only one.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

import numpy as np

from server.api.infer_head import InferHead

IN_PLACE_BYTES = 65536
"""With at least so much to come, the transport reads into the body itself. To change how it reads costs some microseconds."""


class GatheredBody:
    """What has come of one request so far."""

    __slots__ = ("_body", "_n_there", "head")

    def __init__(self, head: InferHead, first: memoryview) -> None:
        """`first`: the part that came with the head, less than the whole."""
        assert head.content_length is not None
        self.head = head
        self._body = np.empty(head.content_length, np.uint8).data  # not touched before it is written
        self._body[: len(first)] = first
        self._n_there = len(first)

    @property
    def n_missing(self) -> int:
        return len(self._body) - self._n_there

    @property
    def room(self) -> memoryview:
        """Where what is missing belongs; `filled` says how much of it has come."""
        return self._body[self._n_there :]

    def filled(self, n_bytes: int) -> None:
        self._n_there += n_bytes

    def add(self, data: bytes) -> bytes:
        """Take what is missing from `data`; returns what is beyond, which belongs to the next request."""
        part, rest = (data, b"") if len(data) <= self.n_missing else (data[: self.n_missing], data[self.n_missing :])
        self.room[: len(part)] = part
        self.filled(len(part))
        return rest

    def whole(self) -> memoryview:
        """The body. Views of it keep its memory."""
        assert not self.n_missing, f"{self.n_missing} bytes have not come"
        return self._body


class Receiving(Protocol):
    """The connection's own protocol, as far as it is asked while a body comes in."""

    def body_received(self, n_bytes: int) -> None:
        """So many bytes of the body have come in, and are where they belong."""

    def eof_received(self) -> None: ...
    def connection_lost(self, exc: Exception | None) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...


class InPlace(asyncio.BufferedProtocol):
    """Stands in for a connection's protocol until a body is whole."""

    def __init__(self, body: GatheredBody, connection: Receiving) -> None:
        self._body = body
        self._connection = connection

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._body.room

    def buffer_updated(self, nbytes: int) -> None:
        self._body.filled(nbytes)
        self._connection.body_received(nbytes)

    def eof_received(self) -> None:
        self._connection.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.connection_lost(exc)

    def pause_writing(self) -> None:
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        self._connection.resume_writing()
