"""One instance of a model: a thread that runs batches and reports back to the event loop, one wake-up per batch."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import SimpleQueue

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
Lost = Callable[[int, str], None]


class Instance:
    """Runs one batch at a time. `report` and `lost` are called on this thread and must hand over to the loop."""

    def __init__(
        self, number: int, name: str, session: Session, assembler: Assembler, clock: Clock, report: Report, lost: Lost
    ) -> None:
        self.number = number
        self._session = session
        self._assembler = assembler
        self._clock = clock
        self._report = report
        self._lost = lost
        self._batches: SimpleQueue[WorkBatch | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)
        self._thread.start()

    def start(self, batch: WorkBatch) -> None:
        """Hand a batch to the thread."""
        self._batches.put(batch)

    def stop(self) -> None:
        """Ask the thread to end after the batch it has."""
        self._batches.put(None)

    def join(self) -> None:
        """Wait for the thread's end. Blocks: not for the event loop."""
        self._thread.join()

    def _loop(self) -> None:
        try:
            while (batch := self._batches.get()) is not None:
                self._report(self._run(batch))
        except Exception as error:  # not the batch's fault: the instance is gone and says so, then a new one comes
            self._lost(self.number, f"{type(error).__name__}: {error}")

    def _run(self, batch: WorkBatch) -> StepResult:
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
