"""The engine's side: front ends connect, their requests go to the engine and the outcomes back to whoever asked."""

from __future__ import annotations

import asyncio
import logging
import mmap
import os
import socket
from pathlib import Path
from typing import Any

from server.fleet import table
from server.fleet.front_link import FrontLink, Served
from server.fleet.remote import HELLO
from server.fleet.slots import mapped
from server.runtime.engine import Engine
from server.runtime.registry import Registry

log = logging.getLogger(__name__)

GREETING_S = 5.0
"""Whoever connects is a front end of ours and says so at once."""

HEARING_S = 5.0
"""A front end that has not read the news of its models by then is not waited for."""

CLOSING_S = 5.0


class Hub:
    """All front ends that are connected, and what they know of the models."""

    def __init__(self, loop: asyncio.AbstractEventLoop, engine: Engine, registry: Registry) -> None:
        self._loop = loop
        self._engine = engine
        self._registry = registry
        self._links: set[FrontLink] = set()
        self._served: dict[int, Served] = {}
        self._rows: list[dict[str, Any]] = []
        self._number = 0
        self._news = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: socket.socket | None = None
        registry.before_retiring(self.tell_and_wait)

    @property
    def n_links(self) -> int:
        """Front ends that are connected."""
        return len(self._links)

    def start(self, address: Path) -> None:
        """Listen at `address`; what a predecessor left there is replaced."""
        self._publish()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        address.unlink(missing_ok=True)
        self._listener.bind(str(address))
        self._listener.listen()
        self._begin(self._accept(self._listener))
        self._begin(self._watch())

    async def close(self) -> None:
        """Say what is left to say, and end all connections."""
        for task in list(self._tasks):
            task.cancel()
        if self._listener is not None:
            self._listener.close()
        for link in list(self._links):
            link.close()
        async with self._news:
            try:
                await asyncio.wait_for(self._news.wait_for(lambda: not self._links), CLOSING_S)
            except TimeoutError:
                log.error("%d front ends did not read their last answers in %g s", len(self._links), CLOSING_S)

    async def tell_and_wait(self) -> None:
        """Every front end knows the models of this moment: what it sends from now on is for them alone."""
        self._publish()
        number = self._number
        serving = {model.key.load for model in self._registry.serving}
        gone = [load for load in self._served if load not in serving]
        async with self._news:
            try:
                await asyncio.wait_for(self._news.wait_for(lambda: all(one.heard >= number for one in self._links)), HEARING_S)
            except TimeoutError:
                log.error("a front end does not answer: what it still asks of models that are retired is refused")
        for load in gone:  # and none that went meanwhile: of those not every front end has heard yet
            self._served.pop(load, None)

    def _begin(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.critical("a bug in ferry: front ends may not be served any more", exc_info=error)

    async def _watch(self) -> None:
        while True:
            self._publish()
            await self._registry.change()

    def _publish(self) -> None:
        models = [model for model in self._registry.serving if model.manifest.text is None]  # texts are tokenised here
        rows = [table.to_json(model) for model in models]
        if rows == self._rows and self._number:
            return
        for model in models:
            self._served.setdefault(model.key.load, Served(model))
        self._rows = rows
        self._number += 1
        for link in self._links:
            link.tell_models(self._number, rows)

    async def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = await self._loop.sock_accept(listener)
            except OSError as error:
                log.error("no front end can connect: %s", error)
                await asyncio.sleep(GREETING_S)
                continue
            self._begin(self._welcome(connection))

    async def _welcome(self, connection: socket.socket) -> None:
        try:
            memories = await asyncio.to_thread(_greeting, connection)
        except OSError as error:
            log.error("a connection that is no front end's: %s", error)
            connection.close()
            return
        link = FrontLink(self._loop, memories[1], memories[0], self, self._engine)
        await self._loop.connect_accepted_socket(lambda: link, connection)
        self._links.add(link)
        link.tell_models(self._number, self._rows)

    # What links ask and tell

    def served(self, load: int) -> Served | None:
        """A model by its load number; None when it is retired."""
        return self._served.get(load)

    def news(self, link: FrontLink) -> None:
        """A front end has heard something, or is gone."""
        if link.is_lost:
            self._links.discard(link)
        self._begin(self._wake())

    async def _wake(self) -> None:
        async with self._news:
            self._news.notify_all()


def _greeting(connection: socket.socket) -> list[mmap.mmap]:
    """The front end's memory and ours. Blocking. Raises OSError."""
    connection.settimeout(GREETING_S)
    said, descriptors, _, _ = socket.recv_fds(connection, len(HELLO), 2)
    connection.setblocking(False)
    try:
        if said != HELLO or len(descriptors) != 2:
            raise OSError(f"it said {said!r}")
        return [mapped(descriptor) for descriptor in descriptors]
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
