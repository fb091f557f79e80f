"""The routes under /v1, in OpenAI's form: a raw ASGI callable that passes everything else on."""

from __future__ import annotations

import logging
from typing import Any
from weakref import WeakKeyDictionary

import orjson

from server.api.arrival import ARRIVED_AT
from server.api.disconnects import DisconnectWatch, Receive
from server.api.errors_http import INTERNAL
from server.api.infer import App, Scope, Send
from server.api.openai_embeddings import EmbeddingCall, EmbeddingModel, embedding_model, read_call
from server.api.openai_errors import UnknownModel, no_route, openai_error, wrong_method
from server.api.request_body import check_length, read_body
from server.api.text_call import Submitted, all_answers, cancel_all
from server.errors import Cancelled, FerryError, NotFound
from server.runtime.engine import Engine
from server.runtime.registry import Registry
from server.runtime.served import ServedModel
from server.runtime.text_stage import TextRequest, read_ids

log = logging.getLogger(__name__)

PREFIX = "/v1/"
EMBEDDINGS = "/v1/embeddings"
MODELS = "/v1/models"


class OpenAiRoutes:
    """POST /v1/embeddings, GET /v1/models, GET /v1/models/NAME; other paths go to `other`."""

    def __init__(self, engine: Engine, registry: Registry, watch: DisconnectWatch, max_body_bytes: int, other: App) -> None:
        self._engine = engine
        self._registry = registry
        self._watch = watch
        self._max_body_bytes = max_body_bytes
        self._other = other
        self._models: WeakKeyDictionary[ServedModel, EmbeddingModel] = WeakKeyDictionary()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(PREFIX):
            await self._other(scope, receive, send)
            return
        try:
            body = await self._answer(scope, receive)
            status, headers = 200, [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        except Cancelled:
            return  # nobody is left to read an answer
        except FerryError as error:
            status, headers, body = openai_error(error)
        except Exception:  # a client always gets an answer, and one bug must not end the connection of the others
            log.exception("%s failed: a bug in ferry", scope["path"])
            status, headers, body = openai_error(FerryError(INTERNAL))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    async def _answer(self, scope: Scope, receive: Receive) -> bytes:
        path, method = scope["path"], scope["method"]
        if path == EMBEDDINGS:
            if method != "POST":
                raise wrong_method(path, method)
            return await self._embed(scope, receive)
        name = path.removeprefix(MODELS + "/")
        if path != MODELS and (name == path or "/" in name or not name):
            raise no_route(path)
        if method not in ("GET", "HEAD"):
            raise wrong_method(path, method)
        if path == MODELS:
            models = [found for served in self._registry.serving if (found := self._known(served)) is not None]
            return orjson.dumps({"object": "list", "data": [_listed(model) for model in models]})
        return orjson.dumps(_listed(self._find(name)[1]))

    async def _embed(self, scope: Scope, receive: Receive) -> bytes:
        encoding = b"identity"
        for name, value in scope["headers"]:
            if name == b"content-length":
                check_length(value, self._max_body_bytes)
            elif name == b"content-encoding" and value:
                encoding = value.lower()
        call = read_call(await read_body(receive, encoding, self._max_body_bytes))
        served, model = self._find(call.model)
        arrived_at = self._engine.arrival(served, scope.get(ARRIVED_AT))
        model.check(call)
        requests = self._submit(served, call, arrived_at)
        self._watch.begin(requests[0].id, receive, lambda: cancel_all(self._engine, requests))
        try:
            answers = await all_answers(self._engine, requests)
        finally:
            self._watch.end(requests[0].id)
        reply = model.reply(call, answers, sum(_n_tokens(request) for request in requests))
        self._engine.replied(requests[-1].payload)
        return reply

    def _submit(self, served: ServedModel, call: EmbeddingCall, arrived_at: float) -> list[Submitted]:
        """Each input is a request of its own, so the scheduler sees its length; all come in one turn of the event loop."""
        engine = self._engine
        texts = [item for item in call.inputs if isinstance(item, str)]
        if texts:
            return [engine.submit_text(served, text, call.truncate, arrived_at=arrived_at) for text in texts]
        reads = [read_ids(served, item) for item in call.inputs if not isinstance(item, str)]
        return [engine.submit(served, read.inputs, 1, read.n_tokens, arrived_at=arrived_at) for read in reads]

    def _find(self, name: str) -> tuple[ServedModel, EmbeddingModel]:
        try:
            served = self._registry.find(name)
        except NotFound as error:
            raise UnknownModel(str(error)) from None
        model = self._known(served)
        if model is None:
            raise UnknownModel(f"model {name!r} makes no embeddings of texts; GET {MODELS} lists those that do")
        return served, model

    def _known(self, served: ServedModel) -> EmbeddingModel | None:
        found = self._models.get(served)
        if found is None and (made := embedding_model(served)) is not None:
            found = self._models[served] = made
        return found


def _listed(model: EmbeddingModel) -> dict[str, Any]:
    return {"id": model.name, "object": "model", "created": model.published_at, "owned_by": "ferry"}


def _n_tokens(request: Submitted) -> int:
    return request.n_tokens if isinstance(request, TextRequest) else request.length
