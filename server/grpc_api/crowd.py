"""Lets calls that come one by one, a turn of the event loop apart, go on together. It knows nothing of what they want."""

from __future__ import annotations

import asyncio

MOST_TURNS = 16
"""No call waits longer than so many turns of the event loop, however many come after it."""


class Crowd:
    """gRPC's library hands over one call per turn of the event loop, so without this each would be a batch of its own.

    Calls wait for as long as every turn brings a further one: back-pressure, no timer. A call that finds no other in
    progress does not wait at all.
    """

    def __init__(self) -> None:
        self._waiting: list[asyncio.Future[None]] = []
        self._n_active = 0
        self._n_seen = 0
        self._n_turns = 0

    def enter(self) -> None:
        """A call has come."""
        self._n_active += 1

    def leave(self) -> None:
        """It has ended."""
        self._n_active -= 1

    async def together(self) -> None:
        """Wait for those that come right after this one. To be awaited between enter() and leave()."""
        if self._n_active == 1:
            return
        loop = asyncio.get_running_loop()
        if not self._waiting:
            self._n_seen = self._n_turns = 0
            loop.call_soon(self._look, loop)
        go = loop.create_future()
        self._waiting.append(go)
        await go

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._n_turns += 1
        if len(self._waiting) > self._n_seen and self._n_turns < MOST_TURNS:
            self._n_seen = len(self._waiting)
            loop.call_soon(self._look, loop)
            return
        waiting, self._waiting = self._waiting, []
        for go in waiting:
            if not go.done():  # its call may have been cancelled
                go.set_result(None)
