"""uvicorn as ferry wants it, in whatever process: its configuration, and how a signal ends it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import uvicorn

from server.accepting import Accepting
from server.api.fast_lane import FastLane
from server.api.http_protocol import FerryProtocol
from server.api.patience import Patience
from server.settings import Settings

log = logging.getLogger(__name__)

BUG = os.EX_SOFTWARE
"""The exit status of a server that a bug of its own has ended."""


def web_config(settings: Settings, app: Any, lane: Callable[[], FastLane | None]) -> uvicorn.Config:
    """For `app` on the main port, unless sockets are given to run on. `lane` is asked once for each connection."""
    patience = Patience(settings.receive_timeout_s)
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http=partial(FerryProtocol, patience, lane),  # type: ignore[arg-type]  # any callable will do
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,  # a client's address is its connection's: whoever wants another one names the header that tells it
        timeout_keep_alive=settings.idle_timeout_s,
        timeout_graceful_shutdown=settings.drain_timeout_s,
    )


async def _nothing() -> None:
    """Nothing else has to drain."""


class WebServer(uvicorn.Server):
    """uvicorn, with something else draining while HTTP does, and someone told once it takes connections."""

    def __init__(
        self,
        config: uvicorn.Config,
        drain: Callable[[], Awaitable[None]] = _nothing,
        listening: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(config)
        self.status = 0
        self._drain = drain
        self._listening = listening
        self._accepting: Accepting | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._accepting = Accepting(asyncio.get_running_loop(), self._connected)
            self._accepting.begin([one.fileno() for server in self.servers for one in server.sockets])
            self._listening()

    def end_after_a_bug(self) -> None:
        """Drain and end, so that whoever sees to this process starts another: its exit status says that it has to."""
        log.critical("ending after a bug in ferry; please report the traceback above")
        self.status = BUG
        self.should_exit = True

    def _connected(self) -> asyncio.Protocol:
        """As uvicorn makes it for those whom it accepts itself."""
        config = self.config
        return config.http_protocol_class(  # type: ignore[call-arg]
            config=config, server_state=self.server_state, app_state=self.lifespan.state
        )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._accepting is not None:
            self._accepting.end()
        draining = asyncio.ensure_future(self._drain())
        await super().shutdown(sockets)
        await draining


def run_web_server(server: WebServer, sockets: list[socket.socket] | None = None) -> int:
    """Until SIGTERM or SIGINT, or a bug; the exit status. What was accepted by then is answered first."""
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, lambda *_: sys.exit(server.status))  # uvicorn raises the signal again when it has drained
    server.run(sockets)
    return server.status if server.started else 1
