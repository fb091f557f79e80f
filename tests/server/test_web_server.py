"""WebServer: a crowd of connections is taken in at once, and none any more when it shuts down."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack
from typing import Any

import pytest
import uvloop

from server.settings import Settings
from server.web_server import WebServer, web_config

CROWD = 150


async def no_app(scope: Any, receive: Any, send: Any) -> None:
    """Answers nothing but the questions of its life."""
    assert scope["type"] == "lifespan"
    for told in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{told}.complete"})


def test_a_crowd_is_taken_in_within_a_few_turns_until_it_shuts_down() -> None:
    async def test() -> None:
        server = WebServer(web_config(Settings.model_validate({"host": "127.0.0.1", "port": 0}), no_app, lambda: None))
        server.lifespan = _lifespan(server)
        await server.startup()
        address = server.servers[0].sockets[0].getsockname()
        with ExitStack() as clients:
            for _ in range(CROWD):
                clients.enter_context(socket.create_connection(address))
            for _ in range(16):
                await asyncio.sleep(0)
            assert len(server.server_state.connections) == CROWD
        await server.shutdown()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)

    uvloop.run(test())


def _lifespan(server: WebServer) -> Any:
    """As uvicorn prepares it before it starts."""
    server.config.load()
    return server.config.lifespan_class(server.config)
