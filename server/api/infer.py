"""Infer requests over ASGI: recognised before any framework sees them; everything else is passed on."""

from __future__ import annotations

import asyncio
from typing import Any

from server.api.arrival import ARRIVED_AT
from server.api.asgi import App, Send, answer_failed
from server.api.clients import Clients
from server.api.codecs import Codecs
from server.api.compression import choose_encoding, pack_body
from server.api.disconnects import DisconnectWatch, Receive
from server.api.errors_http import error_reply
from server.api.infer_call import TextCall, submit_text_call
from server.api.infer_head import Scope, is_infer_path, read_head
from server.api.request_body import read_body
from server.api.terms import head_priority, says_priority, together
from server.backends.base import Array
from server.errors import BadRequest
from server.runtime.serving import M, ServingEngine, ServingModels


class InferRoutes:
    """POST /v2/models/{model}[/versions/{version}]/infer; other paths go to `other`."""

    def __init__(
        self,
        engine: ServingEngine[M],
        registry: ServingModels[M],
        codecs: Codecs,
        watch: DisconnectWatch,
        max_body_bytes: int,
        other: App,
        compress_from_bytes: int = 0,
        clients: Clients | None = None,
    ) -> None:
        """`compress_from_bytes`: replies of this size and more may be compressed; 0: none is. `clients`: where somebody rations."""
        self._engine: ServingEngine[Any] = engine
        self._registry: ServingModels[Any] = registry
        self._watch = watch
        self._max_body_bytes = max_body_bytes
        self._compress_from_bytes = compress_from_bytes
        self._other = other
        self._codecs = codecs
        self._clients = clients

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not is_infer_path(scope["path"]):
            await self._other(scope, receive, send)
            return
        try:
            headers, body = await self._infer(scope, receive)
            if 0 < self._compress_from_bytes <= len(body):
                headers, body = await _compressed(scope["headers"], headers, body)
        except Exception as error:  # a client always gets an answer, and one bug must not end the connection of the others
            await answer_failed(error, error_reply, scope, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _infer(self, scope: Scope, receive: Receive) -> tuple[list[tuple[bytes, bytes]], bytes]:
        head = read_head(scope, self._max_body_bytes, self._clients)
        self._registry.find(head.name, head.version)  # an unknown model is refused before its body is read
        header_length = head.header_length
        body = await read_body(receive, head.encoding, self._max_body_bytes)
        if header_length is not None and not 0 <= header_length <= len(body):
            raise BadRequest(
                f"Inference-Header-Content-Length is {header_length}, the body has {len(body)} bytes; it must count the JSON part"
            )
        model = self._registry.find(head.name, head.version)  # again: it may have been replaced while the body came in
        arrived_at, priority, client = scope.get(ARRIVED_AT), 0, 0
        if head.terms is not None:
            priority = head_priority(head.terms, model.classes, str(model.key))
            client = self._clients.known(head.terms.client, scope.get("client")) if self._clients is not None else 0
        if not says_priority(body, header_length):
            arrived_at = self._engine.arrival(model, arrived_at, priority, client)
        decoder, encoder = self._codecs.of(model)
        call = decoder.decode(body, header_length)
        terms = call.terms if head.terms is None else together(head.terms, priority, call.terms)
        answer: asyncio.Future[list[Array]] = asyncio.get_running_loop().create_future()
        if isinstance(call, TextCall):
            texts = submit_text_call(self._engine, model, call, answer, terms, arrived_at, client)
            request_id, cancel = texts.id, texts.cancel
        else:
            request = self._engine.submit(
                model, call.inputs, call.rows, call.length, answer, terms.timeout_s, arrived_at, terms.priority, client
            )
            request_id, cancel = request.id, lambda: self._engine.cancel(request)
            if call.id:
                self._engine.named(request_id, call.id)
        self._watch.begin(request_id, receive, cancel)
        try:
            outputs = await answer
        finally:
            self._watch.end(request_id)
        return encoder.encode(call.id, outputs, call.outputs)


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
