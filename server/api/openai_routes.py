"""The routes under /v1, in OpenAI's form: a raw ASGI callable that passes everything else on."""

from __future__ import annotations

import asyncio
from typing import Any
from weakref import WeakKeyDictionary

import orjson

from server.api.arrival import ARRIVED_AT
from server.api.asgi import App, Send, answer_failed
from server.api.call_head import read_call_head
from server.api.clients import Clients
from server.api.disconnects import DisconnectWatch, Receive
from server.api.infer_head import Scope
from server.api.openai_embeddings import EmbeddingCall, EmbeddingModel, embedding_model, read_call
from server.api.openai_errors import UnknownModel, no_route, openai_error, wrong_method
from server.api.request_body import read_body
from server.api.terms import head_priority
from server.backends.base import Array
from server.errors import BadRequest, NotFound
from server.runtime.engine import Engine
from server.runtime.gathering import Gathering, submit_ids, submit_texts
from server.runtime.registry import Registry, Served
from server.runtime.served import ServedModel
from server.runtime.work import Outcome

PREFIX = "/v1/"
EMBEDDINGS = "/v1/embeddings"
MODELS = "/v1/models"


class OpenAiRoutes:
    """POST /v1/embeddings, GET /v1/models, GET /v1/models/NAME; other paths go to `other`."""

    def __init__(
        self, engine: Engine, registry: Registry, watch: DisconnectWatch, max_body_bytes: int, other: App,
        clients: Clients | None = None,
    ) -> None:  # fmt: skip
        """`clients`: where somebody rations."""
        self._clients = clients
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
        except Exception as error:  # a client always gets an answer, and one bug must not end the connection of the others
            await answer_failed(error, openai_error, scope, send)
            return
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    async def _answer(self, scope: Scope, receive: Receive) -> bytes:
        path, method = scope["path"], scope["method"]
        if path == EMBEDDINGS:
            if method != "POST":
                raise wrong_method(path, method)
            return await self._embed(scope, receive)
        name = path.removeprefix(MODELS + "/")
        if path != MODELS and (name == path or "/" in name or not name or ":" in name):
            raise no_route(path)
        if method not in ("GET", "HEAD"):
            raise wrong_method(path, method)
        if path == MODELS:
            listed = [row for served in self._registry.served if (row := self._listed(served)) is not None]
            return orjson.dumps({"object": "list", "data": listed})
        return orjson.dumps(self._find_listed(name))

    async def _embed(self, scope: Scope, receive: Receive) -> bytes:
        head = read_call_head(scope, self._max_body_bytes, self._clients)
        terms = head.terms
        call = read_call(await read_body(receive, head.encoding, self._max_body_bytes))
        served, model = self._find(call.model)
        priority = head_priority(terms, served.classes, model.name)
        arrived_at = self._engine.arrival(served, scope.get(ARRIVED_AT), priority, terms.client)
        model.check(call, priority)
        answer: asyncio.Future[list[Array]] = asyncio.get_running_loop().create_future()
        request = self._submit(served, model, call, answer, (terms.timeout_s, arrived_at, priority, terms.client))
        if head.name:
            request.name(head.name)
        self._watch.begin(request.id, receive, request.cancel)
        try:
            outputs = await answer
        finally:
            self._watch.end(request.id)
        return model.reply(call, outputs, request.n_tokens)

    def _submit(
        self, served: ServedModel, model: EmbeddingModel, call: EmbeddingCall, answer: Outcome,
        terms: tuple[float | None, float, int, int],
    ) -> Gathering:  # fmt: skip
        """Each input is a request of its own, so the scheduler sees its length. `terms`: time-out, arrival, class, client."""
        texts = [item for item in call.inputs if isinstance(item, str)]
        if texts:
            return submit_texts(self._engine, served, texts, call.truncate, model.places, answer, *terms)
        all_ids = [item for item in call.inputs if not isinstance(item, str)]
        return submit_ids(self._engine, served, all_ids, model.places, answer, *terms)

    def _find_listed(self, name: str) -> dict[str, Any]:
        try:
            row = self._listed(self._registry.find_served(name))
        except NotFound as error:
            raise UnknownModel(str(error)) from None
        if row is None:
            raise UnknownModel(
                f"model {name!r} neither generates nor makes embeddings of texts; GET {MODELS} lists those that do. KServe's protocol v1 "
                "is not spoken here, V2 is: RESTConfig(protocol='v2')"
            )
        return row

    def _listed(self, served: Served) -> dict[str, Any] | None:
        """None for a model that no route here serves."""
        if isinstance(served, ServedModel) and self._known(served) is None:
            return None
        return {"id": served.key.name, "object": "model", "created": served.published_at, "owned_by": "ferry"}

    def _find(self, name: str) -> tuple[ServedModel, EmbeddingModel]:
        try:
            served = self._registry.find(name)
        except (NotFound, BadRequest) as error:
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
