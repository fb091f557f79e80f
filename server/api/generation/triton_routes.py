"""POST /v2/models/NAME[/versions/V]/generate and /generate_stream: a raw ASGI callable that passes everything else on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import orjson

from server.api.arrival import ARRIVED_AT
from server.api.asgi import App, Send, answer_failed
from server.api.call_head import read_call_head
from server.api.clients import Clients
from server.api.disconnects import Receive
from server.api.errors_http import error_body, error_reply
from server.api.generation.answer import News
from server.api.generation.exchange import exchange
from server.api.generation.fields import read_object
from server.api.generation.forms import sse
from server.api.generation.running import Running, Usage
from server.api.generation.triton_call import TEXT_OUTPUT, flattened, make_job, read_triton
from server.api.infer_head import Scope
from server.api.openai_errors import BadParameter
from server.api.request_body import read_body
from server.errors import FerryError, MethodNotAllowed
from server.generation.serving import GeneratingEngine, GeneratingModel, GeneratingModels

_PREFIX = "/v2/models/"
_GENERATE, _STREAM = "generate", "generate_stream"


class _Route(NamedTuple):
    name: str
    version: str | None
    streams: bool


def _route(path: str) -> _Route | None:
    """None for a path that is not one of these."""
    parts = path.split("/")
    if not path.startswith(_PREFIX) or parts[-1] not in (_GENERATE, _STREAM):
        return None
    if len(parts) == 5:  # "", v2, models, NAME, generate
        return _Route(parts[3], None, parts[-1] == _STREAM)
    if len(parts) == 7 and parts[4] == "versions":
        return _Route(parts[3], parts[5], parts[-1] == _STREAM)
    return None


class GenerateRoutes:
    """Over one engine; other paths go to `other`."""

    def __init__(
        self,
        engine: GeneratingEngine,
        models: GeneratingModels,
        max_body_bytes: int,
        other: App,
        clients: Clients | None = None,
    ) -> None:
        """`clients`: where somebody rations."""
        self._engine = engine
        self._models = models
        self._max_body_bytes = max_body_bytes
        self._other = other
        self._clients = clients

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = _route(scope["path"]) if scope["type"] == "http" else None
        if route is None:
            await self._other(scope, receive, send)
            return
        try:
            await self._answer(route, scope, receive, send)
        except Exception as error:  # a client always gets an answer, and one bug must not end the connection of the others
            await answer_failed(error, error_reply, scope, send)

    async def _answer(self, route: _Route, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises a FerryError as long as nothing has been sent."""
        if scope["method"] != "POST":
            raise MethodNotAllowed(f"{scope['path']} takes POST, not {scope['method']}")
        head = read_call_head(scope, self._max_body_bytes, self._clients)
        self._models.find_generating(route.name, route.version)  # an unknown model is refused before the body is read
        call = read_triton(flattened(read_object(await read_body(receive, head.encoding, self._max_body_bytes))))
        if call.streams not in (None, route.streams):
            other = _GENERATE if route.streams else _STREAM
            raise BadParameter("stream", f"'stream' is {str(call.streams).lower()}; such requests go to {other}")
        before = call.before(route.streams)
        model = self._models.find_generating(route.name, route.version)  # again: it may have been replaced meanwhile
        job = await make_job(model, call, head.terms, scope.get(ARRIVED_AT), head.name)
        newest = self._models.find_generating(route.name, route.version)
        if newest.key != model.key:  # replaced while its tokenizer or a schema took time
            model, job = newest, await make_job(newest, call, head.terms, scope.get(ARRIVED_AT), head.name)
        form = TritonForm(model, call.id, before)
        await exchange(Running(self._engine, model, job, route.streams), form, route.streams, receive, send)


class TritonForm:
    """One call's replies."""

    def __init__(self, model: GeneratingModel, name: str, before: str) -> None:
        """`name`: what the client calls it; `before`: what comes before the completion."""
        told = {"model_name": model.key.name, "model_version": str(model.key.version)}
        self._head = {"id": name, **told} if name else told
        self._before = before
        self._is_fresh = True

    def whole(self, news: Iterable[News], usage: Usage) -> bytes:
        return self._told("".join([self._before, *(one.text for one in news)]))

    def first(self) -> bytes:
        return b""

    def event(self, index: int, news: News) -> bytes:
        """At least one, also of an answer without text."""
        is_told = bool(news.text) or (self._is_fresh and news.finish is not None)
        self._is_fresh = self._is_fresh and not is_told
        return sse(self._told(news.text)) if is_told else b""

    def last(self, usage: Usage) -> bytes:
        return b""

    def failed(self, error: FerryError) -> bytes:
        return sse(error_body(str(error)))

    def _told(self, text: str) -> bytes:
        content: dict[str, Any] = {**self._head, TEXT_OUTPUT: text}
        return orjson.dumps(content)
