"""Starts the engine and the front ends, starts again whichever dies, and ends all of them in order. Serves nothing itself."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from server.fleet.child import READY, Orders
from server.fleet.restarts import Restarts
from server.runtime.clock import Clock

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Post:
    """A child to have at all times: the command, to which the number of an inherited descriptor is added, and its orders."""

    command: Sequence[str]
    orders: Orders

    @property
    def name(self) -> str:
        return self.orders.name


@dataclass(slots=True)
class _Watch:
    """A post and who holds it at the moment."""

    post: Post
    process: asyncio.subprocess.Process | None = None
    is_ready: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class Supervisor:
    """One engine, some front ends."""

    def __init__(self, engine: Post, fronts: Sequence[Post], clock: Clock, patience_s: float) -> None:
        """`patience_s`: how long a child may take to end when it is asked to."""
        self._engine = _Watch(engine)
        self._fronts = [_Watch(front) for front in fronts]
        self._clock = clock
        self._patience_s = patience_s
        self._ending = asyncio.Event()
        self._status = 0

    async def run(self, serving: Callable[[], None], closing: Callable[[], None]) -> int:
        """Until SIGTERM, SIGINT or `end`; the exit status. `serving` is called once everything has started, `closing` when no
        more connections are wanted."""
        loop = asyncio.get_running_loop()
        for stop in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(stop, self.end)
        if await self._start([self._engine]) and await self._start(self._fronts):
            serving()
            await self._ending.wait()
        log.info("Shutting down")
        closing()
        await self._stop(self._fronts)
        await self._stop([self._engine])
        return self._status

    def end(self, status: int = 0) -> None:
        """Stop everything."""
        self._status = max(self._status, status)
        self._ending.set()

    async def _start(self, watches: Sequence[_Watch]) -> bool:
        """Wait until all are ready, or until it is time to end."""
        for watch in watches:
            watch.task = asyncio.create_task(self._keep(watch))
        ready = asyncio.gather(*(watch.is_ready.wait() for watch in watches))
        ending = asyncio.ensure_future(self._ending.wait())
        await asyncio.wait((ready, ending), return_when=asyncio.FIRST_COMPLETED)
        for one in (ready, ending):
            one.cancel()
        with suppress(asyncio.CancelledError):
            await ready
        return not self._ending.is_set()

    async def _stop(self, watches: Sequence[_Watch]) -> None:
        for watch in watches:
            if watch.process is not None:
                _signal(watch.process, signal.SIGTERM)
        tasks = [watch.task for watch in watches if watch.task is not None]
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=self._patience_s)
        if late:
            for watch in watches:
                if watch.process is not None:
                    log.error("%s does not end: killed", watch.post.name)
                    _signal(watch.process, signal.SIGKILL)
            await asyncio.wait(late)

    async def _keep(self, watch: _Watch) -> None:
        """Somebody is at this post until the end."""
        restarts = Restarts()
        name = watch.post.name
        while not self._ending.is_set():
            began_at = self._clock()
            try:
                status = await self._live(watch)
            except (
                OSError
            ) as error:  # no more processes or memory just now, or the interpreter is gone: like a child that ends at once
                log.error("%s cannot be started: %s", name, error)
                status = os.EX_OSERR
            was_ready = watch.is_ready.is_set()
            watch.is_ready.clear()
            if self._ending.is_set():
                return
            pause_s = restarts.pause_s(self._clock() - began_at, was_ready)
            if pause_s is None:
                log.error("%s does not start (%s): giving up; what it said last is above", name, _told(status))
                self.end(1)
                return
            log.error("%s ended (%s); the next one starts in %g s", name, _told(status), pause_s)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), pause_s)

    async def _live(self, watch: _Watch) -> int:
        """One child from its start to its end; the exit status."""
        ours, theirs = socket.socketpair()
        orders = watch.post.orders
        inherited = [theirs.fileno(), *([orders.listener] if orders.listener is not None else [])]
        try:
            with theirs:
                watch.process = process = await asyncio.create_subprocess_exec(
                    *watch.post.command, str(theirs.fileno()), pass_fds=inherited, process_group=0
                )
        except OSError:
            ours.close()
            raise
        if self._ending.is_set():  # it was asked to end before it was there to hear it
            _signal(process, signal.SIGTERM)
        reader, writer = await asyncio.open_connection(sock=ours)
        try:
            writer.write(orders.to_line())
            with suppress(ConnectionError):  # it died at once: its status says so
                if await reader.readline() == READY:
                    watch.is_ready.set()
            return await process.wait()
        finally:
            watch.process = None
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # it has just ended by itself
        process.send_signal(number)


def _told(status: int) -> str:
    return f"exit status {status}" if status >= 0 else f"killed by {signal.Signals(-status).name}"
