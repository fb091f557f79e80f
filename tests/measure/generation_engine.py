"""ferry's own engine in one process with no network around it, as a program that `loadtests.bench_generation` tells to run.

No part of the product: it is the limit beside the server's figures. The setup's checkpoint is REPOSITORY/MODEL.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from loadtests.peers.generators.talk import Answers, Setup, serve
from server.backends.catalog import find_backends
from server.backends.hf_tokenizers import HfTokenizers
from server.errors import FerryError
from server.generation.options import Finish, LogProb, Prompt, Sampling
from server.generation.serving import GeneratingModel
from server.runtime.clock import monotonic_clock
from server.runtime.engine import Engine
from server.runtime.registry import Registry
from server.telemetry.metrics import Metrics

GREEDY = Sampling(temperature=0.0, ends=False)

Ask = tuple[list[int], int]
"""A prompt, and how many new tokens are wanted."""


class Gathered:
    """The tokens of one answer; `left` is told when there is nothing more to come."""

    def __init__(self, over: asyncio.Future[None]) -> None:
        self.ids: list[int] = []
        self.over = over

    def began(self, n_cached: int, scores: object) -> None:
        """Satisfies options.TokenSink."""

    def token(self, token: int, logprob: LogProb | None) -> None:
        self.ids.append(token)

    def ended(self, why: Finish) -> None:
        self.over.set_result(None)

    def failed(self, error: FerryError) -> None:
        self.over.set_exception(error)


def opened(place: Path) -> Callable[[Sequence[Ask]], Answers]:
    """The engine and the model in folder `place`, on a loop of its own that runs while it answers."""
    runner = asyncio.Runner()

    async def open_model() -> tuple[Engine, GeneratingModel]:
        engine = Engine(asyncio.get_running_loop(), monotonic_clock)
        registry = Registry(place.parent, find_backends(), engine, Metrics(monotonic_clock), codecs=HfTokenizers())
        await registry.load(place.name)
        return engine, registry.find_generating(place.name)

    engine, model = runner.run(open_model())

    async def answers(asked: Sequence[Ask]) -> Answers:
        loop = asyncio.get_running_loop()
        sinks = [Gathered(loop.create_future()) for _ in asked]
        for (prompt, n), sink in zip(asked, sinks, strict=True):
            engine.generate(model, Prompt(prompt, n), GREEDY, sink)
        await asyncio.gather(*(sink.over for sink in sinks))
        return [sink.ids for sink in sinks]

    return lambda asked: runner.run(answers(asked))


def everything(setup: Setup) -> list[Ask]:
    return list(zip(setup.prompts, setup.new_tokens, strict=True))


def load(setup: Setup) -> Callable[[], Answers]:
    """Everything asked at once."""
    answer = opened(Path(setup.checkpoint))
    return lambda: answer(everything(setup))


if __name__ == "__main__":
    serve(load)
