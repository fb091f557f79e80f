"""A GeneratingEngine that says what it is told to, step by step, and notes what was asked; and a real HTTP server over it."""

from __future__ import annotations

import asyncio
import math
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, cast

from server.api.asgi import App
from server.api.generation.routes import CompletionRoutes
from server.api.generation.triton_routes import GenerateRoutes
from server.backends.guidance import Guidance
from server.contract.classes import Classes, usual_classes
from server.contract.generation import Generation
from server.contract.manifest import Manifest
from server.core.types import GenerateRequest, ModelKey
from server.errors import BadRequest, FerryError, NotFound
from server.generation.grammars import Grammars
from server.generation.options import Finish, LogProb, Prompt, Sampling, TokenSink
from server.generation.serving import GeneratingEngine, GeneratingModel
from server.generation.texts import TextCodec
from server.runtime.compiled_grammars import CompiledGrammars
from server.settings import Settings
from server.web_server import WebServer, web_config
from tests.generating import codec, end_id, generation

ANSWER = " the 中文 answer, STOP and 😀 more"
NAME = "talker"


@dataclass(frozen=True, slots=True, eq=False)
class FakeModel:
    """A GeneratingModel without anything behind it."""

    codec: TextCodec
    generation: Generation
    grammars: Grammars
    key: ModelKey = field(default_factory=lambda: ModelKey(NAME, 3))
    slo_s: float = 1.0
    gap_s: float = 0.1
    classes: Classes = field(default_factory=lambda: usual_classes(1.0))
    published_at: int = 1_700_000_000

    @property
    def manifest(self) -> Manifest:
        raise AssertionError("nobody here asks for the manifest")


@dataclass(slots=True)
class Asked:
    """One request, as the engine saw it."""

    request: GenerateRequest[object]
    prompt: Prompt
    sampling: Sampling
    sink: TokenSink
    terms: tuple[float | None, float | None, int]
    n_told: int = 0
    is_stopped: bool = False
    is_over: bool = False
    name: str = ""
    why: Finish | None = None


Script = Callable[[Prompt, Sampling], list[int]]


def spoken(text: str = ANSWER) -> Script:
    """A script that always says this, and then ends."""
    return lambda _, __: [*codec().encode(text, special=False), end_id()]


class FakeEngine:
    """Each step gives every request its next token, in one turn of the loop. `script`: what is said to a prompt."""

    def __init__(self, script: Script, step_s: float = 0.0005) -> None:
        self.script = script
        self.step_s = step_s
        self.refusal: FerryError | None = None
        self.breaks_after: tuple[int, FerryError] | None = None
        self.asked: list[Asked] = []
        self._live: list[Asked] = []
        self._is_stepping = False

    def generate(
        self, model: GeneratingModel, prompt: Prompt, sampling: Sampling, sink: TokenSink, timeout_s: float | None = None,
        arrived_at: float | None = None, priority: int = 0, client: int = 0,
    ) -> GenerateRequest[object]:  # fmt: skip
        assert prompt.ids
        assert prompt.new_tokens >= 1
        assert len(prompt.ids) + prompt.new_tokens <= model.generation.longest
        assert all(0 <= token < model.generation.vocabulary for token in prompt.ids)
        request: GenerateRequest[object] = GenerateRequest(
            len(self.asked) + 1, model.key, 1, len(prompt.ids), 0.0, math.inf, None, priority, new_tokens=prompt.new_tokens
        )
        asked = Asked(request, prompt, sampling, sink, (timeout_s, arrived_at, priority))
        self.asked.append(asked)
        self._live.append(asked)
        if not self._is_stepping:
            self._is_stepping = True
            asyncio.get_running_loop().call_later(self.step_s, self.step)
        return request

    def charge_prompts(self, model: GeneratingModel, prompts: Sequence[Prompt], client: int) -> None:
        raise AssertionError("nobody is told apart here")

    def stop(self, request: GenerateRequest[object], why: Finish | None = None) -> None:
        one = next(one for one in self.asked if one.request is request)
        one.is_stopped, one.why = not one.is_over, why
        self._live = [other for other in self._live if other is not one]

    def named(self, number: int, name: str) -> None:
        self.asked[number - 1].name = name

    @property
    def n_stopped(self) -> int:
        return sum(one.is_stopped for one in self.asked)

    def step(self) -> None:
        """One token for each; the next step is due `step_s` later."""
        for one in list(self._live):
            if not one.is_stopped:
                self._tell(one)
        self._live = [one for one in self._live if not (one.is_over or one.is_stopped)]
        self._is_stepping = bool(self._live)
        if self._live:
            asyncio.get_running_loop().call_later(self.step_s, self.step)

    def _tell(self, one: Asked) -> None:
        broken = self.refusal
        if self.breaks_after and one.n_told >= self.breaks_after[0]:
            broken = self.breaks_after[1]
        if broken is not None:
            one.is_over = True
            one.sink.failed(broken)
            return
        if not one.n_told:
            scored = one.prompt.ids[1:] if one.sampling.scores else []
            scores = [score for token in scored if (score := _logprob(token, one.sampling)) is not None]
            one.sink.began(0 if scored else len(one.prompt.ids) // 2, scores)
        said = self.script(one.prompt, one.sampling)
        token = said[one.n_told % len(said)]
        one.n_told += 1
        is_end = token == end_id() and one.sampling.ends
        one.is_over = is_end or one.n_told == one.prompt.new_tokens
        one.sink.token(token, _logprob(token, one.sampling))
        if one.is_over:
            one.sink.ended(Finish.STOP if is_end else Finish.LENGTH)


def _logprob(token: int, sampling: Sampling) -> LogProb | None:
    if sampling.logprobs is None:
        return None
    likeliest = [(token, -0.5), (0, -1.5), (1, -math.inf)]
    return LogProb(-0.5, tuple(likeliest[: sampling.logprobs]))


class FakeModels:
    """GeneratingModels: `talker` generates, `words` does not."""

    def __init__(self, *models: FakeModel) -> None:
        self._models = {model.key.name: model for model in models}

    def replace(self, model: FakeModel) -> None:
        self._models[model.key.name] = model

    def generates(self, name: str) -> bool:
        return name in self._models

    def find_generating(self, name: str, version: str | None = None) -> GeneratingModel:
        if name == "words":
            raise BadRequest("model 'words' does not generate; ask it with POST /v2/models/words/infer")
        model = self._models.get(name)
        if model is None or version not in (None, str(model.key.version)):
            raise NotFound(f"unknown model {name!r}; this server has {', '.join(self._models)}")
        return cast(GeneratingModel, model)


def fake_model(**changes: Any) -> FakeModel:
    made = generation((end_id(),))
    grammars = CompiledGrammars(ModelKey(NAME, 3), Guidance().compiler(codec().serialized, made))
    return FakeModel(**{"codec": codec(), "generation": made, "grammars": grammars, **changes})


def generating_app(engine: GeneratingEngine, models: FakeModels, other: App, max_body_bytes: int) -> App:
    """The routes as the server chains them."""
    return CompletionRoutes(engine, models, max_body_bytes, GenerateRoutes(engine, models, max_body_bytes, other))


class InThread:
    """An application behind ferry's own HTTP, in a thread of its own; a context manager."""

    def __init__(self, app: App, listener: socket.socket) -> None:
        self._ready = threading.Event()
        self._server = WebServer(web_config(Settings(), app, lambda: None), listening=self._ready.set)
        self._thread = threading.Thread(target=self._server.run, args=([listener],))

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(30)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.should_exit = True
        self._thread.join(30)
        assert not self._thread.is_alive()


class FakeServer(InThread):
    """The generating routes over a FakeEngine."""

    def __init__(
        self, engine: FakeEngine, models: FakeModels, max_body_bytes: int = 200_000, listener: socket.socket | None = None
    ) -> None:
        """`listener`: None for a free port."""
        self.engine = engine
        listener = listener or socket.create_server(("127.0.0.1", 0))
        self.port: int = listener.getsockname()[1] if listener.family == socket.AF_INET else 0
        app = generating_app(cast(GeneratingEngine, engine), models, nothing_else, max_body_bytes)
        super().__init__(app, listener)


async def nothing_else(scope: Any, receive: Any, send: Any) -> None:
    """An application that lives and dies, and has no routes."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})
