"""The front end's engine: the same interface as the real one, over a connection that comes back when the engine does."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from server.core.types import InferRequest
from server.errors import Cancelled, EngineAway, Refused, Unsupported
from server.fleet.engine_link import EngineLink
from server.fleet.slots import mapped, shared_memory
from server.fleet.table import ModelTable, RemoteModel
from server.runtime.assemble import Inputs
from server.runtime.clock import Clock
from server.runtime.entrance import Entrance
from server.runtime.reply_time import within_s
from server.runtime.work import Outcome, Work, WorkRequest

if TYPE_CHECKING:
    from server.runtime.text_stage import TextRequest

log = logging.getLogger(__name__)

HELLO = b"ferry-1\n"
"""First bytes of a connection, with the descriptors of the front end's memory and of the engine's."""

TRY_EVERY_S = 0.05


class RemoteEngine(Entrance[RemoteModel]):
    """Requests go to the engine process while there is one. Every method must be called on the event loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock, address: Path, table: ModelTable) -> None:
        super().__init__(clock)
        self._loop = loop
        self._address = address
        self._table = table
        self._link: EngineLink | None = None
        self._ended = asyncio.Event()
        self._n_requests = 0

    @property
    def is_there(self) -> bool:
        """Whether requests can be asked."""
        return self._link is not None

    @property
    def n_open(self) -> int:
        """Requests without an outcome."""
        return 0 if self._link is None else self._link.n_open

    async def stay_connected(self) -> None:
        """Until cancelled. What the table says is true while connected; otherwise it is empty."""
        while True:
            with suppress(OSError):  # no engine yet, or none any more: its supervisor says why
                await self._connect()
                await self._ended.wait()
            await asyncio.sleep(TRY_EVERY_S)

    async def connected(self, timeout_s: float) -> bool:
        """Wait until there is an engine, but no longer than that."""
        until = self._clock() + timeout_s
        while not self.is_there and self._clock() < until:
            await asyncio.sleep(TRY_EVERY_S)
        return self.is_there

    def close(self) -> None:
        """Say what is left to say."""
        if self._link is not None:
            self._link.close()

    def submit(
        self, model: RemoteModel, inputs: Inputs, rows: int, length: int, answer: Outcome, timeout_s: float | None = None,
        arrived_at: float | None = None, priority: int = 0, client: int = 0,
    ) -> WorkRequest:  # fmt: skip
        """Like Engine.submit. Raises EngineAway, Refused when the engine does not keep up, TooLarge."""
        link = self._link
        if link is None:
            raise EngineAway("the engine is being restarted; try again")
        now = self._clock()
        if arrived_at is None:
            arrived_at = now
        if link.is_full:
            error = Refused(
                f"the engine does not read what is sent for model {model.key}; send fewer requests",
                "queue_full",
                EngineAway.retry_after_s,
            )
            link.note(model, error.label, now - arrived_at)
            raise error
        slo_s = model.classes.of(priority).slo_s
        if timeout_s is not None and timeout_s < slo_s:
            slo_s = timeout_s
        self._n_requests += 1
        work = Work(inputs, answer, slo_s)
        request = InferRequest(self._n_requests, model.key, rows, length, arrived_at, arrived_at + within_s(slo_s), work)
        link.ask(request, model, timeout_s, priority, client)
        return request

    def submit_text(
        self, model: RemoteModel, text: str, truncate: bool, answer: Outcome, timeout_s: float | None = None,
        arrived_at: float | None = None, priority: int = 0,
    ) -> TextRequest:  # fmt: skip
        """Never asked: models that take text are in no front end's table, their requests are passed through."""
        raise Unsupported(f"model {model.key} takes text, which the engine's own routes read")

    def charge(self, model: RemoteModel, client: int, rows: int, length: int) -> None:
        """The books are the engine's, which charges when it gets the request."""

    def named(self, number: int, name: str) -> None:
        """Like Engine.named: it is noted where the scheduler is."""
        if self._link is not None:
            self._link.name(number, name)

    def cancel(self, request: WorkRequest | TextRequest) -> None:
        """The client is gone. Harmless when the request has its outcome already."""
        if request.payload.answer.done():
            return
        request.payload.answer.set_exception(Cancelled("the client closed the connection"))
        if self._link is not None and isinstance(request, InferRequest):
            self._link.cancel(request)

    def crowded_out(self, model: RemoteModel, arrived_at: float, priority: int = 0) -> Refused | None:
        """The queue is the engine's, which decides when it gets the request."""
        return None

    def turned_away(self, model: RemoteModel, waited_s: float, error: Refused) -> None:
        """Like Engine.turned_away."""
        if self._link is not None:
            self._link.note(model, error.label, waited_s)

    async def _connect(self) -> None:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        memories = [shared_memory(), shared_memory()]
        try:
            await self._loop.sock_connect(connection, str(self._address))
            socket.send_fds(connection, [HELLO], memories)
            outgoing, incoming = (mapped(memory) for memory in memories)
        except OSError:
            connection.close()
            raise
        finally:
            for memory in memories:
                os.close(memory)
        self._ended.clear()
        link = EngineLink(self._loop, outgoing, incoming, self._table, self._lost)
        await self._loop.create_unix_connection(lambda: link, sock=connection)
        known = asyncio.ensure_future(link.knows_models.wait())
        ended = asyncio.ensure_future(self._ended.wait())
        try:
            await asyncio.wait((known, ended), return_when=asyncio.FIRST_COMPLETED)
        finally:
            known.cancel()
            ended.cancel()
        if not self._ended.is_set():
            self._link = link
            log.info("connected to the engine, which serves %d models", len(self._table))

    def _lost(self) -> None:
        self._link = None
        self._table.clear()
        self._ended.set()
