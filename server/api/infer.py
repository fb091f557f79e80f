"""The hot path: a raw ASGI callable that recognises infer requests and passes everything else on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from weakref import WeakKeyDictionary

from server.api.arrival import ARRIVED_AT
from server.api.compression import choose_encoding, pack_body
from server.api.disconnects import DisconnectWatch, Receive
from server.api.errors_http import INTERNAL, error_reply
from server.api.infer_call import TextCall
from server.api.request_body import check_length, read_body
from server.api.text_call import all_answers, cancel_all, joined, submit_call
from server.api.v2_request import RequestDecoder
from server.api.v2_response import ReplyEncoder
from server.errors import BadRequest, Cancelled, FerryError, MethodNotAllowed, NotFound
from server.runtime.engine import Engine
from server.runtime.registry import Registry
from server.runtime.served import ServedModel

log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_MOST_DIGITS = 18


class InferRoutes:
    """POST /v2/models/{model}[/versions/{version}]/infer; other paths go to `other`."""

    def __init__(
        self,
        engine: Engine,
        registry: Registry,
        watch: DisconnectWatch,
        max_body_bytes: int,
        other: App,
        compress_from_bytes: int = 0,
    ) -> None:
        """`compress_from_bytes`: replies of this size and more may be compressed; 0: none is."""
        self._engine = engine
        self._registry = registry
        self._watch = watch
        self._max_body_bytes = max_body_bytes
        self._compress_from_bytes = compress_from_bytes
        self._other = other
        self._codecs: WeakKeyDictionary[ServedModel, tuple[RequestDecoder, ReplyEncoder]] = WeakKeyDictionary()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].endswith("/infer") or not scope["path"].startswith("/v2/models/"):
            await self._other(scope, receive, send)
            return
        try:
            status, (headers, body) = 200, await self._infer(scope, receive)
            if 0 < self._compress_from_bytes <= len(body):
                headers, body = await _compressed(scope["headers"], headers, body)
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
        header_length, encoding = self._read_headers(scope["headers"])
        body = await read_body(receive, encoding, self._max_body_bytes)
        if header_length is not None and not 0 <= header_length <= len(body):
            raise BadRequest(
                f"Inference-Header-Content-Length is {header_length}, the body has {len(body)} bytes; it must count the JSON part"
            )
        model = self._registry.find(name, version)  # again: it may have been replaced while the body came in
        arrived_at = self._engine.arrival(model, scope.get(ARRIVED_AT))
        decoder, encoder = self._codec(model)
        call = decoder.decode(body, header_length)
        if isinstance(call, TextCall):
            return await self._infer_texts(model, call, arrived_at, receive)
        request = self._engine.submit(model, call.inputs, call.rows, call.length, call.timeout_s, arrived_at)
        self._watch.begin(request.id, receive, lambda: self._engine.cancel(request))
        try:
            outputs = await request.payload.answer
        finally:
            self._watch.end(request.id)
        reply = encoder.encode(call.id, outputs, call.outputs)
        self._engine.replied(request.payload)
        return reply

    async def _infer_texts(
        self, model: ServedModel, call: TextCall, arrived_at: float, receive: Receive
    ) -> tuple[list[tuple[bytes, bytes]], bytes]:
        requests = submit_call(self._engine, model, call, call.timeout_s, arrived_at)
        self._watch.begin(requests[0].id, receive, lambda: cancel_all(self._engine, requests))
        try:
            outputs = joined(await all_answers(self._engine, requests))
        finally:
            self._watch.end(requests[0].id)
        reply = self._codec(model)[1].encode(call.id, outputs, call.outputs)
        self._engine.replied(requests[-1].payload)
        return reply

    def _codec(self, model: ServedModel) -> tuple[RequestDecoder, ReplyEncoder]:
        codec = self._codecs.get(model)
        if codec is None:
            codec = self._codecs[model] = RequestDecoder(model), ReplyEncoder(model)
        return codec

    def _read_headers(self, headers: list[tuple[bytes, bytes]]) -> tuple[int | None, bytes]:
        """The length of the JSON part (None: all of it) and the content encoding. Raises BadRequest or TooLarge."""
        length, encoding = None, b"identity"
        for name, value in headers:
            if name == b"content-length":
                check_length(value, self._max_body_bytes)
            elif name == b"inference-header-content-length":
                if not value.isdigit() or len(value) > _MOST_DIGITS:
                    raise BadRequest(f"Inference-Header-Content-Length must be a number, found {value.decode('latin-1')!r}")
                length = int(value)
            elif name == b"content-encoding" and value:
                encoding = value.lower()
        return length, encoding


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


async def _compressed(
    asked: list[tuple[bytes, bytes]], headers: list[tuple[bytes, bytes]], body: bytes
) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """The reply as the client likes it best; Inference-Header-Content-Length goes on counting the plain JSON."""
    encoding = choose_encoding(b",".join(value for name, value in asked if name == b"accept-encoding"))
    headers = [*headers, (b"vary", b"accept-encoding")]
    if encoding is None:
        return headers, body
    packed = await asyncio.to_thread(pack_body, body, encoding)
    if len(packed) >= len(body):
        return headers, body
    kept = [(name, value) for name, value in headers if name != b"content-length"]
    return [*kept, (b"content-encoding", encoding), (b"content-length", b"%d" % len(packed))], packed
