"""Instances of a model: they run batches and report back on the event loop, where all callbacks are called."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import field
from queue import SimpleQueue

from server.backends.base import Array, BatchError, Session
from server.core.types import Batch
from server.core.value import value
from server.runtime.assemble import Assembler, Part
from server.runtime.clock import Clock
from server.runtime.work import Work

WorkBatch = Batch[Work]


@value
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
IsBrief = Callable[[WorkBatch], bool]

NOT_BRIEF_S = 0.05
MOST_OF_LOOP = 0.01
"""When a batch that was believed to be brief kept the event loop from its work for longer than the one, threads run them until it has
been no more than this share of the time."""


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


class Instances:
    """All instances of one model version: a thread for each and one queue for all, so that whichever is free takes the next batch.

    A thread that ends a batch begins the next one given, if there is one, before the event loop has heard of it; and wakes the
    loop once per batch. A brief batch, for which changing threads would cost more than the model, runs on the event loop itself in
    the place of a free instance: after what the loop has to do in the current turn, so that requests that arrive meanwhile
    form the next, or when `hurry` says so, if it was given after `hold`.
    """

    def __init__(
        self, name: str, runner: Runner, loop: asyncio.AbstractEventLoop, report: Report, lost: Lost, is_brief: IsBrief
    ) -> None:  # fmt: skip
        self._name = name
        self._runner = runner
        self._loop = loop
        self._report = report
        self._lost = lost
        self._is_brief = is_brief
        self._threads: list[threading.Thread] = []
        self._for_threads: SimpleQueue[WorkBatch | None] = SimpleQueue()
        self._for_loop: deque[WorkBatch] = deque()
        self._n_free = 0
        self._is_held = False
        self._loop_again_at = 0.0

    def add(self) -> None:
        """One more instance."""
        thread = threading.Thread(target=self._work, name=f"{self._name}#{len(self._threads)}", daemon=True)
        self._threads.append(thread)
        self._n_free += 1
        thread.start()

    def start(self, batch: WorkBatch) -> None:
        """Take a batch and return at once; its StepResult is reported later."""
        here = self._n_free > 0 and batch.formed_at >= self._loop_again_at and self._is_brief(batch)
        self._n_free -= 1
        if here:
            self._for_loop.append(batch)
            if not self._is_held:
                self._loop.call_soon(self._run_next)
        else:
            self._for_threads.put(batch)

    def hold(self) -> None:
        """Brief batches given from now on wait for `hurry`."""
        self._is_held = True

    def hurry(self) -> None:
        """Run at once what was to run on the event loop, and what follows from it."""
        while self._for_loop:
            self._run_next()
        self._is_held = False

    def stop(self) -> None:
        """Take no more batches."""
        for _ in self._threads:
            self._for_threads.put(None)

    def join(self) -> None:
        """Wait until nothing runs any more. Blocks: not for the event loop."""
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (batch := self._for_threads.get()) is not None:
            try:
                result = self._runner.run(batch)
            except BaseException as error:  # not the batch's fault (a library's panic is no Exception): a new instance comes
                self._loop.call_soon_threadsafe(self._lost, batch, _described(error))
                return
            self._loop.call_soon_threadsafe(self._ended, result)
            del batch, result  # its arrays may be memory that someone waits to have back

    def _run_next(self) -> None:
        if not self._for_loop:
            return  # it was in a hurry
        batch = self._for_loop.popleft()
        try:
            result = self._runner.run(batch)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # as above
            self._for_threads.put(None)  # the thread whose place it took goes, too
            self._lost(batch, _described(error))
            return
        took_s = result.ended_at - result.began_at
        if took_s > NOT_BRIEF_S:
            self._loop_again_at = result.ended_at + took_s / MOST_OF_LOOP
        self._ended(result)

    def _ended(self, result: StepResult) -> None:
        self._n_free += 1
        self._report(result)


def _described(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
