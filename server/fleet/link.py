"""One end of a connection between a front end and the engine: frames in and out, one write per turn of the event loop.

What the frames mean is the business of `remote` (front end) and `hub` (engine).
"""

from __future__ import annotations

import asyncio
import logging
import mmap
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import cast

from server.backends.base import Array
from server.errors import TooLarge
from server.fleet import frames
from server.fleet.frames import INLINE, FrameReader, Kind
from server.fleet.packing import Packing
from server.fleet.slots import Borrowed, BrokenLink, Slots

log = logging.getLogger(__name__)

INLINE_BYTES = 16 << 10
"""Tensors up to this size travel in the frame: copying them twice costs less than keeping the books of a slot."""

MOST_BYTES = frames.MOST_FRAME_BYTES // 2
"""Of one request's or answer's tensors, so that a frame can hold them besides what it has already."""

MOST_UNSENT_BYTES = 64 << 20
"""With so much waiting for the other side to read it, nothing more is taken."""

_PAUSE_BYTES = 1 << 20
_KINDS = {kind.value: kind for kind in Kind}


class Link(asyncio.Protocol, ABC):
    """Both ends are the same but for what they say."""

    def __init__(self, loop: asyncio.AbstractEventLoop, outgoing: mmap.mmap, incoming: mmap.mmap) -> None:
        self._loop = loop
        self._slots = Slots(outgoing)
        self._borrowed = Borrowed(incoming, self._wake)
        self._reader = FrameReader()
        self._transport: asyncio.Transport | None = None
        self._is_paused = False
        self._will_flush = False

    # For who says something

    @property
    def is_full(self) -> bool:
        """Whether the other side reads so slowly that nothing more may be added."""
        transport = self._transport
        return self._is_paused and transport is not None and transport.get_write_buffer_size() > MOST_UNSENT_BYTES

    @property
    def n_slots_taken(self) -> int:
        """Slots of ours that the other side may be reading."""
        return self._slots.n_taken

    def flush_soon(self) -> None:
        """`outgoing` is asked at the end of this turn of the loop, and what it returns is written in one piece."""
        if not self._will_flush:
            self._will_flush = True
            self._loop.call_soon(self._flush)

    def place(self, packing: Packing, arrays: Sequence[Array]) -> tuple[int, int, bytes]:
        """Where tensors go: the first of the slots that they were written to, or INLINE when they are small or no slots are
        free; how many bytes; and the bytes when they are inline. Raises TooLarge."""
        data = packing.pack_small(arrays, INLINE_BYTES)
        if data is not None:
            return INLINE, len(data), data
        packed = packing.pack(arrays)
        n_bytes = packed.n_bytes
        if n_bytes > MOST_BYTES:
            raise TooLarge(f"tensors of {n_bytes} bytes; {MOST_BYTES} fit between a front end and the engine: send fewer rows")
        slot = self._slots.take(n_bytes)
        if slot is None:
            return INLINE, n_bytes, packed.joined()
        packed.write(self._slots.view(slot, n_bytes))
        return slot, n_bytes, b""

    def find(self, slot: int, n_bytes: int, body: memoryview, at: int) -> tuple[memoryview, int, int]:
        """The other side's `place`: buffer and place of tensors, and where the next inline ones begin. Raises BrokenLink."""
        if slot == INLINE:
            return body, at, at + n_bytes
        return self._borrowed.borrow(slot, n_bytes), 0, at

    def close(self) -> None:
        """Write what is left, then end the connection."""
        if self._transport is not None:
            self._flush()
            self._transport.close()

    @abstractmethod
    def outgoing(self) -> list[bytes]:
        """Frames with everything that was said since the last time."""

    @abstractmethod
    def received(self, kind: Kind, body: memoryview) -> None:
        """A frame of the other side. Raises BrokenLink."""

    @abstractmethod
    def lost(self) -> None:
        """The connection has ended, for whatever reason; nothing can be said any more."""

    # What the transport tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        self._transport.set_write_buffer_limits(_PAUSE_BYTES)

    def data_received(self, data: bytes) -> None:
        try:
            for number, body in self._reader.feed(data):
                self._take(number, body)
        except Exception as error:  # a bug of ours on either side; other connections must not suffer from it
            log.error("a connection between processes ends: %s", error, exc_info=not isinstance(error, BrokenLink))
            if self._transport is not None:
                self._transport.abort()

    def pause_writing(self) -> None:
        self._is_paused = True

    def resume_writing(self) -> None:
        self._is_paused = False

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.lost()

    def _take(self, number: int, body: memoryview) -> None:
        if number == Kind.RELEASES:
            for slot in frames.read_numbers(body):
                self._slots.give_back(slot)
        elif (kind := _KINDS.get(number)) is not None:
            self.received(kind, body)
        else:
            raise BrokenLink(f"a frame of the unknown kind {number}")

    def _wake(self) -> None:
        """Slots can be returned: told on whatever thread dropped the last array."""
        if self._transport is not None:
            try:
                self._loop.call_soon_threadsafe(self.flush_soon)
            except RuntimeError:  # the loop has ended, and the connection with it
                log.debug("slots came back after the end")

    def _flush(self) -> None:
        self._will_flush = False
        if self._transport is None:
            return
        try:
            parts = self.outgoing()
        except Exception:  # a bug of ours; what was to be said is lost, so nobody may go on waiting for it
            log.exception("a connection between processes ends: what it should carry cannot be written")
            self._transport.abort()
            return
        if returned := self._borrowed.returned():
            parts.append(frames.numbers_frame(Kind.RELEASES, returned))
        if parts:
            self._transport.write(parts[0] if len(parts) == 1 else b"".join(parts))
