"""POST /v1/completions and /v1/chat/completions: a raw ASGI callable that passes everything else on."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from server.api.arrival import ARRIVED_AT
from server.api.asgi import App, Send, answer_failed
from server.api.call_head import CallHead, read_call_head
from server.api.clients import Clients
from server.api.disconnects import Receive
from server.api.generation.chat import ChatForm, read_chat
from server.api.generation.completions import USUAL_TOKENS, CompletionForm, Echo, read_completion
from server.api.generation.exchange import exchange
from server.api.generation.fields import BodyFields, read_object
from server.api.generation.forms import OpenAiForm, OpenAiFrame, TellsUsage
from server.api.generation.prompts import all_ids, chat_ids
from server.api.generation.response_format import held
from server.api.generation.running import Job, Running
from server.api.generation.wishes import make_prompt
from server.api.infer_head import Scope
from server.api.openai_errors import UnknownModel, openai_error, wrong_method
from server.api.request_body import read_body
from server.api.terms import Terms, head_priority
from server.errors import BadRequest, NotFound
from server.generation.serving import GeneratingEngine, GeneratingModel, GeneratingModels
from server.runtime.clock import calendar_ms

COMPLETIONS = "/v1/completions"
CHAT = "/v1/chat/completions"


class CompletionRoutes:
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
        if scope["type"] != "http" or scope["path"] not in (COMPLETIONS, CHAT):
            await self._other(scope, receive, send)
            return
        try:
            await self._answer(scope, receive, send)
        except Exception as error:  # a client always gets an answer, and one bug must not end the connection of the others
            await answer_failed(error, openai_error, scope, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises a FerryError as long as nothing has been sent."""
        path = scope["path"]
        if scope["method"] != "POST":
            raise wrong_method(path, scope["method"])
        head = read_call_head(scope, self._max_body_bytes, self._clients)
        fields = BodyFields(read_object(await read_body(receive, head.encoding, self._max_body_bytes)))
        prepare = self._chat if path == CHAT else self._completion
        model, job, form, streams = await prepare(fields, head, scope.get(ARRIVED_AT))
        if self._find(model.key.name).key != model.key:  # replaced while its tokenizer or a schema took time
            model, job, form, streams = await prepare(fields, head, scope.get(ARRIVED_AT))
        running = Running(self._engine, model, job, streams)
        form.follow(running)
        await exchange(running, form, streams, receive, send)

    async def _completion(
        self, fields: BodyFields, head: CallHead, arrived_at: float | None
    ) -> tuple[GeneratingModel, Job, OpenAiForm, bool]:
        call = read_completion(fields)
        model = self._find(call.model)
        terms = _terms(model, head)
        prompts = [
            make_prompt(model, ids, call.wishes, "prompt", USUAL_TOKENS) for ids in await all_ids(model, call.prompts, "prompt")
        ]
        sampling = await held(model, call.wishes.sampling, call.wishes.schema)
        job = Job(prompts, sampling, call.wishes.stops, call.n, arrived_at, terms, head.name, head.terms.client)
        echoed = [_echo(model, given, prompts[place].ids) if call.echo else Echo() for place, given in enumerate(call.prompts)]
        echoes = [one for one in echoed for _ in range(call.n)]
        frame = _frame(model, "cmpl", "text_completion", call.tells_usage)
        return model, job, CompletionForm(frame, model.codec, echoes, sampling.logprobs is not None), call.streams

    async def _chat(
        self, fields: BodyFields, head: CallHead, arrived_at: float | None
    ) -> tuple[GeneratingModel, Job, OpenAiForm, bool]:
        call = read_chat(fields)
        model = self._find(call.model)
        terms = _terms(model, head)
        prompt = make_prompt(model, await chat_ids(model, call.messages, "messages"), call.wishes, "messages", None)
        sampling = await held(model, call.wishes.sampling, call.wishes.schema)
        job = Job([prompt], sampling, call.wishes.stops, call.n, arrived_at, terms, head.name, head.terms.client, goes_on=False)
        frame = _frame(model, "chatcmpl", "chat.completion.chunk" if call.streams else "chat.completion", call.tells_usage)
        return model, job, ChatForm(frame, model.codec, call.n, sampling.logprobs is not None), call.streams

    def _find(self, name: str) -> GeneratingModel:
        try:
            return self._models.find_generating(name)
        except (NotFound, BadRequest) as error:
            raise UnknownModel(str(error)) from None


def _terms(model: GeneratingModel, head: CallHead) -> Terms:
    return Terms(head.terms.timeout_s, head_priority(head.terms, model.classes, model.key.name))


def _echo(model: GeneratingModel, given: str | list[int], ids: Sequence[int]) -> Echo:
    return Echo(given if isinstance(given, str) else model.codec.decode(given), ids)


def _frame(model: GeneratingModel, prefix: str, kind: str, tells_usage: TellsUsage) -> OpenAiFrame:
    name = f"{prefix}-{uuid.uuid4().hex}"
    return OpenAiFrame(kind, name, calendar_ms() // 1000, model.key.name, str(model.key), tells_usage)
