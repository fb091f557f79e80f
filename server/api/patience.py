"""How long a client may take: to send a request, and to read its answer. One timer for all connections."""

from __future__ import annotations

import asyncio
from typing import Protocol

SLOWEST_BYTES_PER_S = 16384
"""A body, or an answer, may take a second more for each so many bytes of it that moved."""

TICK_S = 0.5


class Client(Protocol):
    """A connection as far as patience with it is concerned."""

    @property
    def n_received(self) -> int:
        """Bytes of the unfinished request since it was first seen to be unfinished."""

    @property
    def is_held_up(self) -> bool:
        """Whether it is our side that does not read at the moment."""

    def give_up(self) -> None:
        """The request did not come in within its time."""

    def abandon(self) -> None:
        """The answer was not read within its time."""


class Patience:
    """Knows the connections that owe something: the rest of a request, or the reading of an answer.

    Most requests arrive whole and most answers leave at once; those never come here.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._senders: dict[Client, float] = {}
        self._readers: dict[Client, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    @property
    def n_watched(self) -> int:
        return len(self._senders) + len(self._readers)

    def expect_request(self, client: Client, loop: asyncio.AbstractEventLoop) -> None:
        """A part of a request has come; `forget` or another call of this ends the wait."""
        self._senders[client] = loop.time() + self._timeout_s
        self._tick_later(loop)

    def expect_reading(self, client: Client, n_bytes: int, loop: asyncio.AbstractEventLoop) -> None:
        """So many bytes wait for the client to read them."""
        self._readers[client] = loop.time() + self._timeout_s + n_bytes / SLOWEST_BYTES_PER_S
        self._tick_later(loop)

    def has_sent(self, client: Client) -> None:
        """The request is complete, or nobody waits for it any more."""
        self._senders.pop(client, None)

    def has_read(self, client: Client) -> None:
        """Likewise for the answer."""
        self._readers.pop(client, None)

    def _tick_later(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is None:
            self._timer = loop.call_later(TICK_S, self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        now = loop.time()
        for client, due_at in list(self._senders.items()):
            if client.is_held_up:
                self._senders[client] = now + self._timeout_s
            elif now > due_at + client.n_received / SLOWEST_BYTES_PER_S:
                del self._senders[client]
                client.give_up()
        for client, due_at in list(self._readers.items()):
            if now > due_at:
                del self._readers[client]
                client.abandon()
        if self._senders or self._readers:
            self._tick_later(loop)
