"""Instances of a model: they run batches and report back on the event loop, where both callbacks are called."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Protocol

from server.backends.base import Array, BatchError, Session
from server.core.types import Batch
from server.runtime.assemble import Assembler, Part
from server.runtime.clock import Clock
from server.runtime.work import Work

WorkBatch = Batch[Work]


@dataclass(frozen=True, slots=True)
class StepResult:
    """What came of a batch: `answers` per request (outputs in order) when `error` is None. Times are absolute seconds."""

    batch: WorkBatch
    began_at: float
    joined_at: float
    computed_at: float
    ended_at: float
    answers: list[list[Array]] = field(default_factory=list)
    error: str | None = None


Report = Callable[[StepResult], None]
Lost = Callable[[WorkBatch, str], None]


class Instances(Protocol):
    """All instances of one model version. Each runs one batch at a time; whichever is free takes the next one given."""

    def add(self) -> None:
        """One more instance."""

    def start(self, batch: WorkBatch) -> None:
        """Take a batch and return at once; its StepResult is reported later."""

    def hurry(self) -> None:
        """Run at once what was going to run on the event loop after its current turn."""

    def stop(self) -> None:
        """Take no more batches."""

    def join(self) -> None:
        """Wait until nothing runs any more. Blocks: not for the event loop."""


class Runner:
    """Joins, runs and splits one batch."""

    def __init__(self, session: Session, assembler: Assembler, clock: Clock) -> None:
        self._session = session
        self._assembler = assembler
        self._clock = clock

    def run(self, batch: WorkBatch) -> StepResult:
        """What came of it. An exception means that the instance, not the batch, is broken."""
        clock = self._clock
        began_at = joined_at = computed_at = clock()
        parts = [Part(request.payload.inputs, request.rows, request.length) for request in batch.requests]
        try:
            inputs = self._assembler.join(parts)
            joined_at = computed_at = clock()
            outputs = self._session.run(inputs)
            computed_at = clock()
            answers = self._assembler.split(outputs, parts)
        except BatchError as error:
            return StepResult(batch, began_at, joined_at, computed_at, clock(), error=str(error))
        return StepResult(batch, began_at, joined_at, computed_at, clock(), answers)


class ThreadInstances:
    """A thread for each instance, one queue for all, and one wake-up of the event loop per batch. The default.

    A thread that ends a batch begins the next one given, if there is one, before the event loop has heard of it.
    """

    def __init__(self, name: str, runner: Runner, loop: asyncio.AbstractEventLoop, report: Report, lost: Lost) -> None:
        self._name = name
        self._runner = runner
        self._loop = loop
        self._report = report
        self._lost = lost
        self._batches: SimpleQueue[WorkBatch | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    def add(self) -> None:
        thread = threading.Thread(target=self._work, name=f"{self._name}#{len(self._threads)}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def start(self, batch: WorkBatch) -> None:
        self._batches.put(batch)

    def hurry(self) -> None:
        """The threads do not wait for the event loop."""

    def stop(self) -> None:
        for _ in self._threads:
            self._batches.put(None)

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (batch := self._batches.get()) is not None:
            try:
                result = self._runner.run(batch)
            except Exception as error:  # not the batch's fault: the instance is gone and says so, then a new one comes
                self._loop.call_soon_threadsafe(self._lost, batch, _described(error))
                return
            self._loop.call_soon_threadsafe(self._report, result)


class InlineInstances:
    """Run batches on the event loop itself, for models so fast that changing threads would cost more than the model.

    A batch runs after what the loop has to do in the current turn, so requests that arrive meanwhile form the next.
    """

    def __init__(self, runner: Runner, loop: asyncio.AbstractEventLoop, report: Report, lost: Lost) -> None:
        self._runner = runner
        self._loop = loop
        self._report = report
        self._lost = lost
        self._given: deque[WorkBatch] = deque()

    def add(self) -> None:
        """All instances are the event loop."""

    def start(self, batch: WorkBatch) -> None:
        self._given.append(batch)
        self._loop.call_soon(self._run_next)

    def hurry(self) -> None:
        while self._given:
            self._run_next()

    def stop(self) -> None:
        """Nothing runs between two turns of the loop."""

    def join(self) -> None:
        """Likewise."""

    def _run_next(self) -> None:
        if not self._given:
            return  # it was in a hurry
        batch = self._given.popleft()
        try:
            result = self._runner.run(batch)
        except Exception as error:  # as above
            self._lost(batch, _described(error))
        else:
            self._report(result)


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
