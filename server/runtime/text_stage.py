"""Texts on their way to tokens: one thread for each model that takes text; everything else happens on the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Protocol

from server.backends.base import TextError
from server.core.types import InferRequest, ModelKey, Refusal
from server.errors import BadText
from server.intake.texts import Read, TextReader
from server.runtime.clock import Clock
from server.runtime.served import ServedModel
from server.runtime.text_queue import TextQueue
from server.runtime.work import Work

BATCH_S = 0.002
"""A batch of texts is full when the profile says that it takes so long: who waits for tokens waits little longer for others'."""

PACE_LEARNING_RATE = 0.1
LEAST_PACE, MOST_PACE = 0.5, 8.0
"""Measured time ÷ the profile's: each batch counts for so much, and for no more or less than that."""


@dataclass(slots=True, eq=False)
class TextRequest:
    """One text from its arrival on; its outcome will be in `payload`. Times are absolute seconds, `cost_s` is what the profile
    says of its tokens, `priority` is as in InferRequest. Once it has them, `request` is what the scheduler sees of it."""

    id: int
    model: ModelKey
    text: str
    truncate: bool
    arrived_at: float
    deadline_at: float
    payload: Work
    cost_s: float
    priority: int = 0
    n_tokens: int = 0
    request: InferRequest[Work] | None = None


class Customer(Protocol):
    """Who gets the texts back, on the event loop."""

    def texts_ready(self, model: ServedModel, requests: Sequence[InferRequest[Work]]) -> None:
        """These have their tokens."""

    def text_refused(self, text: TextRequest, why: Refusal, retry_after_s: float | None) -> None:
        """This one cannot be answered in time, or there is no room for it."""

    def text_failed(self, text: TextRequest, reason: TextError) -> None:
        """This one cannot be tokenised, or not within the model's limits."""


@dataclass(frozen=True, slots=True)
class _Batch:
    """What the thread is given, and what it makes of it."""

    texts: Sequence[TextRequest]
    outcomes: Sequence[Read | TextError] = field(default_factory=list)
    took_s: float = 0.0


class TextStage:
    """The tokenizer of one model version.

    A batch is formed when the thread is free, from what waits then: there is no timer, and the busier the thread, the larger the
    batches. Cancelled texts are left out, hopeless ones are refused. The thread sees texts only, and wakes the event loop once
    for each batch. What the profile predicts is corrected by what batches really take.
    """

    def __init__(
        self, model: ServedModel, reader: TextReader, loop: asyncio.AbstractEventLoop, clock: Clock, customer: Customer
    ) -> None:
        assert model.text is not None, "a version that takes text has its cost"
        self._model = model
        self._cost = model.text
        self._reader = reader
        self._loop = loop
        self._clock = clock
        self._customer = customer
        self._arrived: list[TextRequest] = []
        self._waiting: TextQueue[TextRequest] = TextQueue()
        self._running: _Batch | None = None
        self._running_until = 0.0
        self._pace = 1.0
        self._drained: asyncio.Future[None] | None = None
        self._batches: SimpleQueue[_Batch | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=f"{model.key}: text", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        running = len(self._running.texts) if self._running else 0
        return f"<TextStage {self._model.key}: {len(self._waiting)} waiting, {running} running, pace {self._pace:.2f}>"

    def cost_s(self, text: str) -> float:
        """What the profile says of a text, in seconds."""
        return self._cost.predict(len(text.encode()))

    def add(self, text: TextRequest) -> None:
        """Take a text. Those that come in one turn of the event loop can share a batch even when the thread is idle."""
        if not self._arrived:
            self._loop.call_soon(self._admit)
        self._arrived.append(text)

    async def drain(self) -> None:
        """Until every text that was added has left; nothing may be added meanwhile."""
        if self._arrived or self._waiting or self._running is not None:
            self._drained = self._loop.create_future()
            await self._drained

    def stop(self) -> None:
        """End the thread."""
        self._batches.put(None)

    def join(self) -> None:
        """Wait for the thread's end. Blocks: not for the event loop."""
        self._thread.join()

    def _admit(self) -> None:
        """Let those wait that can be answered in time after those before them, and for which there is room; refuse the others."""
        arrived, self._arrived = self._arrived, []
        now = self._clock()
        for text in arrived:
            if text.payload.answer.done():
                continue
            if self._waiting.n_before(text.priority) >= self._model.limits.queue_rows:
                self._customer.text_refused(text, Refusal.QUEUE_FULL, self._waiting.seconds * self._pace)
            elif not self._refuse_late(
                text, max(now, self._running_until) + self._waiting.before_s(text.priority) * self._pace
            ):
                self._waiting.add(text)
        self._begin()

    def _refuse_late(self, text: TextRequest, begins_at: float) -> bool:
        """Whether a text that begins then was refused, because its answer would be late at best."""
        needs_s = text.cost_s * self._pace + self._model.fastest_s
        late_s = begins_at + needs_s - text.deadline_at
        if late_s > 0:
            in_vain = needs_s > text.deadline_at - text.arrived_at
            self._customer.text_refused(text, Refusal.DEADLINE, None if in_vain else late_s)
        return late_s > 0

    def _begin(self) -> None:
        """Give the thread its next batch, if it is free and something is worth it."""
        if self._running is None and (texts := self._take()):
            self._running = _Batch(texts)
            self._running_until = self._clock() + sum(text.cost_s for text in texts) * self._pace
            self._batches.put(self._running)
        self._tell_drained()

    def _take(self) -> list[TextRequest]:
        """The next texts."""
        texts: list[TextRequest] = []
        taken_s = 0.0
        now = self._clock()
        while self._waiting and (not texts or taken_s + self._waiting.head.cost_s * self._pace <= BATCH_S):
            text = self._waiting.take()
            if not text.payload.answer.done() and not self._refuse_late(text, now + taken_s):
                texts.append(text)
                taken_s += text.cost_s * self._pace
        return texts

    def _ended(self, batch: _Batch) -> None:
        """The thread gets its next batch before this one is handed on."""
        ratio = batch.took_s / sum(text.cost_s for text in batch.texts)
        self._pace += PACE_LEARNING_RATE * (min(max(ratio, LEAST_PACE), MOST_PACE) - self._pace)
        self._running = None
        self._begin()
        self._hand_on(batch)
        self._tell_drained()

    def _hand_on(self, batch: _Batch) -> None:
        now = self._clock()
        ready: list[InferRequest[Work]] = []
        for text, outcome in zip(batch.texts, batch.outcomes, strict=True):
            if text.payload.answer.done():
                continue  # cancelled meanwhile
            if isinstance(outcome, TextError):
                self._customer.text_failed(text, outcome)
            else:
                ready.append(_with_tokens(text, outcome, now))
        if ready:
            self._model.stats.prepared([request.payload.prepared_s for request in ready])
            self._customer.texts_ready(self._model, ready)

    def _tell_drained(self) -> None:
        busy = self._arrived or self._waiting or self._running is not None
        if self._drained is not None and not self._drained.done() and not busy:
            self._drained.set_result(None)

    def _work(self) -> None:
        while (batch := self._batches.get()) is not None:
            began_at = self._clock()
            outcomes: Sequence[Read | TextError]
            try:
                outcomes = self._reader.read([text.text for text in batch.texts], [text.truncate for text in batch.texts])
            except Exception as error:  # whatever goes wrong, each text gets an outcome and the thread lives on
                outcomes = [TextError(f"{type(error).__name__}: {error}") for _ in batch.texts]
            ended = _Batch(batch.texts, outcomes, self._clock() - began_at)
            self._loop.call_soon_threadsafe(self._ended, ended)


def read_ids(model: ServedModel, ids: Sequence[int]) -> Read:
    """The arrays of a text that its client tokenised itself. Raises BadText when they are not the model's ids, or too many."""
    assert model.reader is not None, "only models that take text are asked"
    found = model.reader.fill(ids)
    if isinstance(found, TextError):
        raise BadText(str(found))
    return found


def _with_tokens(text: TextRequest, read: Read, now: float) -> InferRequest[Work]:
    """The text as a request to the scheduler. Its time has been running since the text came."""
    text.n_tokens = read.n_tokens
    text.payload.inputs, text.payload.prepared_s = read.inputs, now - text.arrived_at
    text.request = InferRequest(
        text.id, text.model, 1, read.n_tokens, text.arrived_at, text.deadline_at, text.payload, text.priority
    )  # fmt: skip
    return text.request
