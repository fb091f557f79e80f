"""HTTP/2 as bytes, as far as a gRPC call needs it: one call at a time on a connection, frames in, frames out. No sockets.

After RFC 9113. The server is told to use no header table, so header blocks are the same bytes each time: parsed once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from hpack import Decoder, Encoder
from hpack.exceptions import HPACKError

from loadtests.errors import MalformedReply
from loadtests.grpc_status import OK, reset, status_of
from loadtests.wire import Bodies, Head, Response

DATA, HEADERS, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 5, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20

_TABLE_SIZE, _PUSH, _INITIAL_WINDOW, _MAX_FRAME = 1, 2, 4, 5
_LARGEST_WINDOW = 2**31 - 1
_DEFAULT_WINDOW = 65_535
_DEFAULT_FRAME = 16_384
_REPLENISH_BYTES = 2**30
_MAX_BLOCK_BYTES = 64 * 1024
_MAX_CACHED_BLOCKS = 512
_PREFIX_BYTES = 5


def frame(kind: int, flags: int, stream: int, payload: bytes | memoryview) -> bytes:
    """A whole frame."""
    return b"".join((len(payload).to_bytes(3, "big"), bytes((kind, flags)), stream.to_bytes(4, "big"), payload))


def _settings(values: Mapping[int, int]) -> bytes:
    return b"".join(name.to_bytes(2, "big") + value.to_bytes(4, "big") for name, value in values.items())


GREETING = b"".join((
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    frame(SETTINGS, 0, 0, _settings({_TABLE_SIZE: 0, _PUSH: 0, _INITIAL_WINDOW: _LARGEST_WINDOW})),
    frame(WINDOW_UPDATE, 0, 0, (_LARGEST_WINDOW - _DEFAULT_WINDOW).to_bytes(4, "big")),
))  # fmt: skip
"""What a client sends first: replies may be as large as they like, and their headers are never indexed."""


def call_request(headers: Mapping[str, str], message: bytes) -> bytes:
    """A gRPC call, to be sent by a CallReader: its HEADERS frame without a stream's number, then its one message."""
    block = Encoder().encode([(name, value, True) for name, value in headers.items()], huffman=False)
    if len(block) > _DEFAULT_FRAME:
        raise ValueError(f"headers of {len(block)} bytes are more than a frame of {_DEFAULT_FRAME} holds")
    return frame(HEADERS, END_HEADERS, 0, block) + b"\0" + len(message).to_bytes(4, "big") + message


class Blocks:
    """Parses header blocks and remembers them by their bytes."""

    def __init__(self) -> None:
        self._known: dict[bytes, Mapping[str, str]] = {}

    def fields(self, block: bytes) -> Mapping[str, str]:
        """The header fields of a block. Raises MalformedReply, also for one that needs a header table."""
        known = self._known.get(block)
        if known is None:
            if len(self._known) >= _MAX_CACHED_BLOCKS:
                self._known.clear()
            known = self._known[block] = _decoded(block)
        return known


def _decoded(block: bytes) -> Mapping[str, str]:
    decoder = Decoder()
    decoder.max_allowed_table_size = decoder.header_table_size = 0
    try:
        return {str(name): str(value) for name, value in decoder.decode(block)}
    except HPACKError as error:
        raise MalformedReply(f"not a header block: {error}") from error


class _Windows:
    """How much the server lets us send, and in which pieces. `stream` is of the call in flight."""

    __slots__ = ("connection", "initial", "largest_frame", "stream")

    def __init__(self) -> None:
        self.connection = self.initial = self.stream = _DEFAULT_WINDOW
        self.largest_frame = _DEFAULT_FRAME

    def settle(self, payload: bytes) -> None:
        """The server's settings, those that matter to a client that indexes nothing."""
        for at in range(0, len(payload) - 5, 6):
            name, value = int.from_bytes(payload[at : at + 2], "big"), int.from_bytes(payload[at + 2 : at + 6], "big")
            if name == _INITIAL_WINDOW:
                self.stream += value - self.initial
                self.initial = value
            elif name == _MAX_FRAME:
                self.largest_frame = value

    def take(self, wanted: int) -> int:
        """How many of `wanted` bytes may go in the next frame; they are taken off."""
        n = min(wanted, self.connection, self.stream, self.largest_frame)
        self.connection -= n
        self.stream -= n
        return n


class _Ended(NamedTuple):
    """How a call ended."""

    status: int
    reason: str


class CallReader:
    """Calls out, replies in, one at a time: what ResponseReader is for HTTP/1.1. `blocks` may be shared by many."""

    __slots__ = (
        "_block", "_blocks", "_bodies", "_buffer", "_ended", "_headers", "_in_flight", "_leaving", "_n_message", "_n_taken", "_parts",
        "_stream", "_unframed", "_windows", "owed",
    )  # fmt: skip

    def __init__(self, bodies: Bodies = Bodies.KEEP, blocks: Blocks | None = None) -> None:
        self._bodies = bodies
        self._blocks = blocks or Blocks()
        self._windows = _Windows()
        self._buffer = b""
        self._block: bytes | None = None
        self._headers: Mapping[str, str] = {}
        self._parts: list[bytes] = []
        self._n_message = 0
        self._n_taken = 0
        self._stream = -1
        self._unframed = memoryview(b"")
        self._in_flight = False
        self._ended: _Ended | None = None
        self._leaving = False
        self.owed = b""

    @property
    def idle(self) -> bool:
        """Whether a further call may be made on this connection."""
        return not self._leaving

    def start(self) -> bytes:
        """What a new connection sends first."""
        return GREETING

    def outgoing(self, request: bytes) -> bytes:
        """The frames of a call made by `call_request`, as far as the server's windows let them go; the rest is `owed` later."""
        self._stream += 2
        self._in_flight = True
        self._windows.stream = self._windows.initial
        self._headers, self._parts, self._n_message = {}, [], 0
        n_head = 9 + int.from_bytes(request[:3], "big")
        self._unframed = memoryview(request)[n_head:]
        return b"".join((request[:5], self._stream.to_bytes(4, "big"), request[9:n_head], *self._data()))

    def _data(self) -> list[bytes]:
        frames = []
        while n := self._windows.take(len(self._unframed)):
            rest = self._unframed[n:]
            frames.append(frame(DATA, 0 if rest else END_STREAM, self._stream, self._unframed[:n]))
            self._unframed = rest
        return frames

    def feed(self, data: bytes) -> Response | None:
        """Take bytes; the reply to the call, once it is whole. Fills `owed` with what the server is to be sent meanwhile.

        Raises MalformedReply for what is not HTTP/2 or not gRPC, and when the server wants the connection to end.
        """
        if self._buffer:
            data = self._buffer + data
        at, n_data = 0, len(data)
        while n_data - at >= 9:
            end = at + 9 + int.from_bytes(data[at : at + 3], "big")
            if end > n_data:
                self._check_size(end - at)
                break
            stream = int.from_bytes(data[at + 5 : at + 9], "big") & _LARGEST_WINDOW
            self._take(data[at + 3], data[at + 4], stream, data[at + 9 : end])
            at = end
        self._buffer = data[at:]
        return None if self._ended is None else self._reply(*self._ended)

    def _check_size(self, n_bytes: int) -> None:
        if n_bytes > 9 + _DEFAULT_FRAME:
            raise MalformedReply("not HTTP/2: is this a gRPC port, without TLS?")

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if self._block is not None and kind != CONTINUATION:
            raise MalformedReply("a frame between the frames of one header block")
        if kind == DATA:
            self._take_data(flags, stream, payload)
        elif kind == HEADERS:
            self._take_headers(flags, stream, _bare(flags, payload))
        elif kind in _CONTROL:
            self._take_control(kind, flags, stream, payload)
        elif kind == CONTINUATION and self._block is not None:
            self._take_headers(flags, stream, self._block + payload)
        elif kind in (PUSH_PROMISE, CONTINUATION):
            raise MalformedReply(f"frame {kind}, which cannot be here")

    def _take_data(self, flags: int, stream: int, payload: bytes) -> None:
        self._n_taken += len(payload)
        if self._n_taken >= _REPLENISH_BYTES:
            self.owed += frame(WINDOW_UPDATE, 0, 0, self._n_taken.to_bytes(4, "big"))
            self._n_taken = 0
        if stream != self._stream:
            return
        message = _bare(flags, payload) if flags & PADDED else payload
        self._n_message += len(message)
        if self._bodies is Bodies.KEEP:
            self._parts.append(message)
        if flags & END_STREAM:
            raise MalformedReply("a reply without gRPC's status")

    def _take_headers(self, flags: int, stream: int, block: bytes) -> None:
        """One block, or what there is of it so far. The last one is known by its grpc-status."""
        if not flags & END_HEADERS:
            if len(block) > _MAX_BLOCK_BYTES:
                raise MalformedReply(f"headers of more than {_MAX_BLOCK_BYTES} bytes")
            self._block = block
            return
        self._block = None
        fields = self._blocks.fields(block)
        if stream != self._stream:
            return
        if "grpc-status" in fields:
            self._ended = _Ended(*status_of(fields["grpc-status"], fields.get("grpc-message", "")))
        elif fields.get(":status") != "200" or flags & END_STREAM:
            raise MalformedReply(f"not a gRPC reply: HTTP status {fields.get(':status', 'missing')}")
        self._headers = fields

    def _take_control(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == SETTINGS and not flags & ACK:
            self._windows.settle(payload)
            self.owed += frame(SETTINGS, ACK, 0, b"")
        elif kind == PING and not flags & ACK:
            self.owed += frame(PING, ACK, 0, payload)
        elif kind == WINDOW_UPDATE:
            self._widen(stream, int.from_bytes(payload, "big") & _LARGEST_WINDOW)
        elif kind == RST_STREAM and stream == self._stream and self._ended is None:
            self._ended = _Ended(*reset(int.from_bytes(payload, "big")))
        elif kind == GOAWAY:
            self._leave(int.from_bytes(payload[:4], "big") & _LARGEST_WINDOW)
        if self._unframed and self._ended is None:
            self.owed += b"".join(self._data())

    def _widen(self, stream: int, by: int) -> None:
        if stream == 0:
            self._windows.connection += by
        elif stream == self._stream:
            self._windows.stream += by

    def _leave(self, last_stream: int) -> None:
        """The call in flight is answered yet if its stream is among those that the server has taken."""
        self._leaving = True
        if last_stream < self._stream or not self._in_flight:
            raise MalformedReply("the server ends the connection (GOAWAY)")

    def _reply(self, status: int, reason: str) -> Response:
        self._ended, self._in_flight = None, False
        closes = self._leaving or bool(self._unframed)  # half a call cannot be taken back but with its connection
        self._unframed = memoryview(b"")
        if status != OK:
            return Response(Head(status, self._headers, len(reason), closes), reason.encode())
        if self._n_message < _PREFIX_BYTES:
            raise MalformedReply("status OK without a message")
        body = self._message() if self._bodies is Bodies.KEEP else b""
        return Response(Head(OK, self._headers, self._n_message, closes), body)

    def _message(self) -> bytes:
        whole = b"".join(self._parts)
        if whole[0] or int.from_bytes(whole[1:_PREFIX_BYTES], "big") != len(whole) - _PREFIX_BYTES:
            raise MalformedReply("the reply is compressed, or not one message")
        return whole[_PREFIX_BYTES:]


_CONTROL = frozenset((RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE))


def _bare(flags: int, payload: bytes) -> bytes:
    """A payload without its padding and priority."""
    first, last = 0, len(payload)
    if flags & PADDED:
        first, last = 1, len(payload) - payload[0]
    if flags & PRIORITY:
        first += 5
    return payload[first:last]
