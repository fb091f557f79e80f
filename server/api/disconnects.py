"""Notices clients that went away, without a watcher task for every request that is answered at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

Receive = Callable[[], Awaitable[Any]]

PATIENCE_S = 0.05


class DisconnectWatch:
    """Requests that still wait after PATIENCE_S get a task that listens for the end of their connection.

    One timer serves all of them; a request that is answered sooner costs two dictionary operations.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._young: dict[int, tuple[Receive, Callable[[], None]]] = {}
        self._old: dict[int, tuple[Receive, Callable[[], None]]] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._ticking = False

    def begin(self, key: int, receive: Receive, gone: Callable[[], None]) -> None:
        """Call `gone` once if `receive` reports a disconnect before end(key)."""
        self._young[key] = (receive, gone)
        if not self._ticking:
            self._ticking = True
            self._loop.call_later(PATIENCE_S, self._tick)

    def end(self, key: int) -> None:
        """The request has its outcome."""
        if self._young.pop(key, None) is None and self._old.pop(key, None) is None:
            task = self._tasks.pop(key, None)
            if task is not None:
                task.cancel()

    def _tick(self) -> None:
        """What was old at the last tick has waited for a whole period: watch it."""
        for key, (receive, gone) in self._old.items():
            self._tasks[key] = self._loop.create_task(listen(receive, gone))
        self._old, self._young = self._young, {}
        self._ticking = bool(self._old)
        if self._ticking:
            self._loop.call_later(PATIENCE_S, self._tick)


async def listen(receive: Receive, gone: Callable[[], None]) -> None:
    """Call `gone` once the client has gone; for a task that is cancelled when nobody has to know any more."""
    while (await receive())["type"] != "http.disconnect":
        pass
    gone()
