"""The hot path: a raw ASGI callable that recognises infer requests and passes everything else on."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from weakref import WeakKeyDictionary

from server.api.disconnects import DisconnectWatch, Receive
from server.api.errors_http import INTERNAL, error_reply
from server.api.v2_request import RequestDecoder
from server.api.v2_response import ReplyEncoder
from server.errors import BadRequest, Cancelled, FerryError, MethodNotAllowed, NotFound, TooLarge, Unsupported
from server.runtime.engine import Engine
from server.runtime.registry import Registry
from server.runtime.served import ServedModel

log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_MOST_DIGITS = 18
_WINDOW_BITS = {b"gzip": 16 + zlib.MAX_WBITS, b"deflate": zlib.MAX_WBITS}


class InferRoutes:
    """POST /v2/models/{model}[/versions/{version}]/infer; other paths go to `other`."""

    def __init__(self, engine: Engine, registry: Registry, watch: DisconnectWatch, max_body_bytes: int, other: App) -> None:
        self._engine = engine
        self._registry = registry
        self._watch = watch
        self._max_body_bytes = max_body_bytes
        self._other = other
        self._codecs: WeakKeyDictionary[ServedModel, tuple[RequestDecoder, ReplyEncoder]] = WeakKeyDictionary()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].endswith("/infer") or not scope["path"].startswith("/v2/models/"):
            await self._other(scope, receive, send)
            return
        try:
            status, (headers, body) = 200, await self._infer(scope, receive)
        except Cancelled:
            return  # nobody is left to read an answer
        except FerryError as error:
            status, headers, body = error_reply(error)
        except Exception:  # a client always gets an answer, and one bug must not end the connection of the others
            log.exception("infer failed: a bug in ferry")
            status, headers, body = error_reply(FerryError(INTERNAL))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _infer(self, scope: Scope, receive: Receive) -> tuple[list[tuple[bytes, bytes]], bytes]:
        name, version = _route(scope)
        self._registry.find(name, version)  # an unknown model is refused before its body is read
        header_length, encoding = _read_headers(scope["headers"])
        body = await self._read_body(receive, encoding)
        if header_length is not None and not 0 <= header_length <= len(body):
            raise BadRequest(
                f"Inference-Header-Content-Length is {header_length}, the body has {len(body)} bytes; it must count the JSON part"
            )
        model = self._registry.find(name, version)  # again: it may have been replaced while the body came in
        decoder, encoder = self._codec(model)
        call = decoder.decode(body, header_length)
        request = self._engine.submit(model, call.inputs, call.rows, call.length, call.timeout_s)
        self._watch.begin(request.id, receive, lambda: self._engine.cancel(request))
        try:
            outputs = await request.payload.answer
        finally:
            self._watch.end(request.id)
        return encoder.encode(call.id, outputs, call.outputs)

    def _codec(self, model: ServedModel) -> tuple[RequestDecoder, ReplyEncoder]:
        codec = self._codecs.get(model)
        if codec is None:
            codec = self._codecs[model] = RequestDecoder(model), ReplyEncoder(model)
        return codec

    async def _read_body(self, receive: Receive, encoding: bytes) -> bytes:
        """The whole body, decoded. Raises TooLarge as soon as the limit is passed, without reading the rest."""
        message = await receive()
        body: bytes = message.get("body", b"")
        if message.get("more_body"):
            parts, size = [body], len(body)
            while message.get("more_body") and size <= self._max_body_bytes:
                message = await receive()
                parts.append(message.get("body", b""))
                size += len(parts[-1])
            body = b"".join(parts)
        if message["type"] == "http.disconnect":
            raise Cancelled("the client closed the connection while it sent the body")
        if len(body) > self._max_body_bytes:
            raise self._too_large("has more")
        return body if encoding == b"identity" else self._decompress(body, encoding)

    def _decompress(self, body: bytes, encoding: bytes) -> bytes:
        bits = _WINDOW_BITS.get(encoding)
        if bits is None:
            raise Unsupported(f"Content-Encoding {encoding.decode('latin-1')!r} is not supported; use gzip, deflate or none")
        stream = zlib.decompressobj(bits)
        try:
            plain = stream.decompress(body, self._max_body_bytes + 1)
        except zlib.error as error:
            raise BadRequest(f"the body is not valid {encoding.decode()}: {error}") from None
        if len(plain) > self._max_body_bytes:
            raise self._too_large("unpacks to more")
        if not stream.eof:
            raise BadRequest(f"the {encoding.decode()} body is cut off")
        return plain

    def _too_large(self, what: str) -> TooLarge:
        return TooLarge(
            f"the body {what} than {self._max_body_bytes} bytes; send fewer rows or raise the server's max_body_bytes"
        )


def _route(scope: Scope) -> tuple[str, str | None]:
    """Model and version of an infer path. Raises NotFound or MethodNotAllowed."""
    parts = scope["path"].split("/")
    if len(parts) == 5:  # "", v2, models, NAME, infer
        name, version = parts[3], None
    elif len(parts) == 7 and parts[4] == "versions":
        name, version = parts[3], parts[5]
    else:
        raise NotFound(f"no route {scope['path']!r}; infer is POST /v2/models/NAME[/versions/N]/infer")
    if scope["method"] != "POST":
        raise MethodNotAllowed("infer wants POST")
    return name, version


def _read_headers(headers: list[tuple[bytes, bytes]]) -> tuple[int | None, bytes]:
    """The length of the JSON part (None: all of it) and the content encoding. Raises BadRequest."""
    length, encoding = None, b"identity"
    for name, value in headers:
        if name == b"inference-header-content-length":
            if not value.isdigit() or len(value) > _MOST_DIGITS:
                raise BadRequest(f"Inference-Header-Content-Length must be a number, found {value.decode('latin-1')!r}")
            length = int(value)
        elif name == b"content-encoding" and value:
            encoding = value.lower()
    return length, encoding
