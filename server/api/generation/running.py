"""A call that generates, from its first request to its last answer: one or several requests, one reader. No wire format."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

from server.api.generation.answer import Answer
from server.api.generation.stop_texts import StopTexts
from server.api.terms import NO_TERMS, Terms
from server.core.types import GenerateRequest
from server.errors import Cancelled
from server.generation.options import Finish, Prompt, Sampling
from server.generation.serving import GeneratingEngine, GeneratingModel

_SEEDS = 2**64


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be generated: `n` answers to each prompt, in this order. `stops`: texts that end an answer. `client`: who asks, where that
    matters; 0: somebody. `goes_on`: answers continue the text of their prompts."""

    prompts: Sequence[Prompt]
    sampling: Sampling
    stops: Sequence[str]
    n: int = 1
    arrived_at: float | None = None
    terms: Terms = NO_TERMS
    name: str = ""
    client: int = 0
    goes_on: bool = True


class Usage(NamedTuple):
    """Tokens of a call, as it stands: of its prompts, those of them that were known before, and of its answers."""

    n_prompt: int
    n_cached: int
    n_completion: int


class Running:
    """The requests of one call. All methods belong to the event loop's thread.

    Its reader is woken at most once for each step of the engine, however many of its answers grew; it may take its time.
    """

    def __init__(self, engine: GeneratingEngine, model: GeneratingModel, job: Job, streams: bool) -> None:
        """Queues the requests. `streams`: whether the reader wants to know of every bit of text. Raises what the engine raises."""
        self._engine = engine
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._job = job
        self._is_gone = False
        self._requests: list[GenerateRequest[object]] = []
        ends = frozenset(model.generation.ends) if job.sampling.ends else frozenset()
        grown = self._news.set if streams else _unmoved
        self.answers: list[Answer] = []
        if job.client:
            engine.charge_prompts(model, [prompt for prompt in job.prompts for _ in range(job.n)], job.client)
        try:
            for place in range(len(job.prompts) * job.n):
                stream = model.codec.stream(job.prompts[place // job.n].ids if job.goes_on else ())
                stops = StopTexts(job.stops)
                answer = Answer(stream, stops, ends, grown, self._news.set, partial(self._halt, place))
                self.answers.append(answer)
                self._requests.append(self._generate(model, place, answer))
        except BaseException:  # refused, or a bug: nobody will read what was begun
            self.stop()
            raise

    def _generate(self, model: GeneratingModel, place: int, answer: Answer) -> GenerateRequest[object]:
        """Answers to one prompt differ by their seeds, if it has one."""
        job, sampling = self._job, self._job.sampling
        if sampling.seed is not None and place % job.n:
            sampling = replace(sampling, seed=(sampling.seed + place % job.n) % _SEEDS)
        terms = job.terms
        request = self._engine.generate(
            model, job.prompts[place // job.n], sampling, answer, terms.timeout_s, job.arrived_at, terms.priority, job.client
        )
        if job.name:
            self._engine.named(request.id, job.name)
        return request

    @property
    def usage(self) -> Usage:
        """Each prompt counts once, however many answers it gets."""
        return Usage(
            sum(len(prompt.ids) for prompt in self._job.prompts),
            sum(answer.n_cached for answer in self.answers[:: self._job.n]),
            sum(answer.n_tokens for answer in self.answers),
        )

    @property
    def is_over(self) -> bool:
        return all(answer.is_over for answer in self.answers)

    async def begun(self) -> None:
        """Until the first answer has begun. Raises the FerryError of one that cannot, and Cancelled."""
        while not any(answer.has_begun or answer.is_over for answer in self.answers):
            await self.more()
        self._check()

    async def finished(self) -> None:
        """Until all answers are complete. Raises likewise."""
        while not self.is_over:
            await self.more()
        self._check()

    async def more(self) -> None:
        """Until there is something new. Raises likewise."""
        await self._news.wait()
        self._news.clear()
        self._check()

    def stop(self) -> None:
        """Whatever is not over is not wanted any more. May be called at any time, and twice."""
        for request, answer in zip(self._requests, self.answers, strict=False):
            if not answer.is_over:
                self._engine.stop(request)

    def abandon(self) -> None:
        """The client is gone: stop, and tell the reader by Cancelled."""
        self._is_gone = True
        self.stop()
        self._news.set()

    def _halt(self, place: int) -> None:
        """Later than now: the engine is in the middle of telling what its step gave."""
        self._loop.call_soon(self._engine.stop, self._requests[place], Finish.STOP)

    def _check(self) -> None:
        if self._is_gone:
            raise Cancelled("the client closed the connection before its answer was complete")
        error = next((answer.error for answer in self.answers if answer.error is not None), None)
        if error is not None:
            raise error


def _unmoved() -> None:
    """Nobody waits for single pieces."""
