"""Passes a front end's other HTTP requests on to the engine's own application, over a Unix socket, piece by piece.

One connection for each request: they are rare, and none of them can be stale.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from pathlib import Path

import h11

from server.api.asgi import Send
from server.api.clients import FROM_FRONT_END, Clients
from server.api.disconnects import Receive
from server.api.errors_http import error_reply
from server.api.infer_head import Scope
from server.api.openai_errors import openai_error
from server.errors import BadRequest, EngineAway, EngineLost, FerryError

log = logging.getLogger(__name__)

PIECE_BYTES = 64 << 10

_HOP_BY_HOP = {
    b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"te", b"trailer", b"transfer-encoding",
    b"upgrade", b"expect",
}  # fmt: skip
_OURS = {b"date"}
"""Response headers that the front end's own server adds."""

_LIVE = "/v2/health/live"


def frames_address(folder: Path) -> Path:
    """Where the engine listens for front ends' connections."""
    return folder / "frames"


def web_address(folder: Path) -> Path:
    """Where the engine's own application listens."""
    return folder / "web"


class Proxy:
    """An ASGI application that is really elsewhere."""

    def __init__(self, address: Path, clients: Clients | None = None) -> None:
        """`clients`: where somebody rations; the engine is told who asks, since it sees this process only."""
        self._address = str(address)
        self._clients = clients

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            reader, writer = await asyncio.open_unix_connection(self._address)
        except OSError:
            await _without_engine(scope, send)
            return
        exchange = _Exchange(reader, writer, self._clients)
        try:
            await exchange.run(scope, receive, send)
        except FerryError as error:
            await _refuse(error, scope, send)
        finally:
            writer.close()
            with suppress(ConnectionError):  # whoever closed first
                await writer.wait_closed()


class _Exchange:
    """One request and its response."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, clients: Clients | None) -> None:
        self._clients = clients
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.CLIENT)
        self._client_is_gone = False
        self._has_begun = False

    async def run(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises BadRequest, or EngineLost when there is no response."""
        try:
            self._writer.write(self._http.send(_head(scope, self._clients)) or b"")
        except h11.LocalProtocolError as error:
            raise BadRequest(f"a header that cannot be passed on: {error}") from None
        upload = asyncio.ensure_future(self._upload(receive))
        try:
            await self._download(send)
        except (h11.RemoteProtocolError, ConnectionError):
            if self._client_is_gone:
                return
            if self._has_begun:
                log.error("the engine ended in the middle of its response to %s", scope["path"])
                return  # the connection ends with it, so that the client notices
            raise EngineLost("the engine died while it answered; it is restarted, try again") from None
        finally:
            upload.cancel()
            with suppress(asyncio.CancelledError):
                await upload

    async def _upload(self, receive: Receive) -> None:
        """The body, and then the news that the client went away."""
        is_whole = False
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                self._client_is_gone = True
                self._writer.transport.abort()
                return
            if is_whole:
                continue
            data = self._http.send(h11.Data(data=message.get("body", b""))) or b""
            if not message.get("more_body", False):
                data += self._http.send(h11.EndOfMessage()) or b""
                is_whole = True
            self._writer.write(data)
            with suppress(ConnectionError):  # it has answered already, or has died: the response tells
                await self._writer.drain()

    async def _download(self, send: Send) -> None:
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                self._http.receive_data(await self._reader.read(PIECE_BYTES))
            elif isinstance(event, h11.Response):
                self._has_begun = True
                headers = [(name, value) for name, value in event.headers if name not in _HOP_BY_HOP | _OURS]
                await send({"type": "http.response.start", "status": event.status_code, "headers": headers})
            elif isinstance(event, h11.Data):
                await send({"type": "http.response.body", "body": bytes(event.data), "more_body": True})
            elif isinstance(event, h11.EndOfMessage):
                await send({"type": "http.response.body", "body": b""})
                return
            elif isinstance(event, h11.ConnectionClosed):
                raise ConnectionResetError("no response")


def _head(scope: Scope, clients: Clients | None) -> h11.Request:
    headers = list(scope["headers"])
    named = {name.strip().lower() for key, value in headers if key == b"connection" for name in value.split(b",")}
    kept = [(key, value) for key, value in headers if key not in _HOP_BY_HOP and key not in named]
    if clients is not None:
        client = clients.known(clients.by_headers(headers), scope.get("client"))
        kept = [(FROM_FRONT_END, b"%x" % client), *((key, value) for key, value in kept if key != FROM_FRONT_END)]
    names = {key for key, _ in headers}
    if b"transfer-encoding" in names:
        kept.append((b"transfer-encoding", b"chunked"))
    if b"host" not in names:  # HTTP/1.0
        kept.append((b"host", b"localhost"))
    query = scope["query_string"]
    target = scope["raw_path"] + (b"?" + query if query else b"")
    return h11.Request(method=scope["method"], target=target, headers=kept)


async def _without_engine(scope: Scope, send: Send) -> None:
    """The server lives: a supervisor is about to start an engine. It is not ready."""
    if scope["path"] == _LIVE and scope["method"] == "GET":
        await _reply(200, [(b"content-type", b"application/json")], b'{"live":true}', send)
    else:
        await _refuse(EngineAway("the engine is being restarted; try again"), scope, send)


async def _refuse(error: FerryError, scope: Scope, send: Send) -> None:
    """In the form of the API that was asked."""
    worded = openai_error if scope["path"].startswith("/v1/") else error_reply
    await _reply(*worded(error), send)


async def _reply(status: int, headers: list[tuple[bytes, bytes]], body: bytes, send: Send) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
