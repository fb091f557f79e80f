"""A front end's process: HTTP on the public port, the engine elsewhere. `python -m server.front_process DESCRIPTOR`, started by
the supervisor. Neither onnxruntime nor FastAPI is imported here."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from server.api.asgi import Send
from server.api.clients import Clients
from server.api.codecs import Codecs
from server.api.cors import with_cors
from server.api.disconnects import DisconnectWatch, Receive
from server.api.fast_lane import FastLane
from server.api.infer import InferRoutes
from server.api.infer_head import Scope
from server.api.keys import keys_of, with_keys
from server.api.load_shedding import LoadShedder
from server.child_process import settings_of
from server.fleet.child import Line
from server.fleet.proxy import Proxy, frames_address, web_address
from server.fleet.remote import RemoteEngine
from server.fleet.served_heads import ServedHeads
from server.fleet.table import ModelTable
from server.runtime.clock import busy_clock, monotonic_clock
from server.settings import Settings
from server.web_server import WebServer, run_web_server, web_config

log = logging.getLogger(__name__)

FIRST_CONTACT_S = 2.0
"""A front end that finds no engine for so long takes requests all the same, to tell clients to try again."""


class FrontEnd:
    """The ASGI application: infer requests are decoded here, everything else is passed on to the engine's own application."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        """To be set before the start: `broken`, which is called if a bug has made this process useless."""
        self._settings = settings
        self._address = frames_address(folder)
        self._table = ModelTable()
        self._clients = Clients(settings.client_header) if settings.client_share else None
        self._proxy = Proxy(web_address(folder), self._clients)
        self._infer: InferRoutes | None = None
        self._engine: RemoteEngine | None = None
        self._connecting: asyncio.Task[None] | None = None
        self.fast_lane: FastLane | None = None
        self.broken: Callable[[], None] = lambda: None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif self._infer is not None and self._table.serves(scope["path"]):
            await self._infer(scope, receive, send)
        else:
            await self._proxy(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        loop = asyncio.get_running_loop()
        engine = RemoteEngine(loop, monotonic_clock, self._address, self._table)
        self._connecting = loop.create_task(engine.stay_connected())
        self._connecting.add_done_callback(self._disconnected)
        await engine.connected(FIRST_CONTACT_S)
        settings, codecs = self._settings, Codecs()
        self._infer = InferRoutes(
            engine,
            self._table,
            codecs,
            DisconnectWatch(loop),
            settings.max_body_bytes,
            self._proxy,
            settings.compress_from_bytes,
            self._clients,
        )
        keys = keys_of(settings.api_keys, settings.admin_token)
        heads = ServedHeads(self._table, settings.max_body_bytes, settings.compress_from_bytes > 0, self._clients, keys)
        shedder = LoadShedder(loop, monotonic_clock, busy_clock)
        self.fast_lane = FastLane(heads, engine, self._table, codecs, shedder, self._clients)
        self._engine = engine
        gc.collect()
        gc.freeze()  # as the engine's process does: what start-up made is not walked again and again
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self._connecting.cancel()
        engine.close()
        await send({"type": "lifespan.shutdown.complete"})

    def _disconnected(self, connecting: asyncio.Task[None]) -> None:
        """A front end that cannot connect any more is of no use: the supervisor starts another."""
        if not connecting.cancelled():
            log.critical("a bug in ferry: the connection to the engine is not kept any more", exc_info=connecting.exception())
            self.broken()


def main(descriptor: int) -> int:
    """Serve until SIGTERM, or until the supervisor ends."""
    line = Line(descriptor)
    orders = line.orders()
    settings = settings_of(orders)
    assert orders.listener is not None
    front = FrontEnd(settings, Path(orders.folder))
    app = with_cors(with_keys(front, keys_of(settings.api_keys, settings.admin_token)), settings.cors_origins)
    server = WebServer(web_config(settings, app, lambda: front.fast_lane), listening=line.ready)
    front.broken = server.end_after_a_bug
    return run_web_server(server, [socket.socket(fileno=orders.listener)])


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
