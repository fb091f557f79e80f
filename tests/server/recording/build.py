"""Short ways to a recording of a few hand-made events."""

from __future__ import annotations

from typing import Any

from server.core.costs import CostTable
from server.core.events import Action, Event, InstanceUp, Open, Run, StepDone, Submit
from server.core.scheduler import Scheduler
from server.core.types import Batch, InferRequest, Limits, Mixing
from server.recording.file import Header, Recording, pieces, read
from server.recording.ring import Ring
from tests.server.core.build import KEY, MS, costs, request

HEADER = Header("1.2.3", "a test", 100.0, 1_700_000_000_000, 0.0005)


class Tape:
    """A scheduler with one instance of a model whose batches take 4 ms and 1 ms a row, and its recording."""

    def __init__(
        self, table: CostTable | None = None, mixing: Mixing = Mixing.ANY, queue_rows: int = 100, ahead: int = 0,
        chunk_bytes: int = 1 << 20,
    ) -> None:  # fmt: skip
        self.scheduler: Scheduler[Any] = Scheduler()
        self.ring = Ring(self.scheduler, chunk_bytes, 1 << 20)
        self.batches: list[Batch[Any]] = []
        table = table or costs()
        self.feed(0.0, Open(KEY, Limits(table.max_rows, queue_rows, ahead), mixing, table))
        self.feed(0.0, InstanceUp(KEY))

    def feed(self, at_ms: float, event: Event[Any]) -> list[Action[Any]]:
        """Let something happen."""
        actions = self.scheduler.handle(event, at_ms * MS)
        self.ring.note(event, actions, at_ms * MS)
        self.batches += [action.batch for action in actions if isinstance(action, Run)]
        return actions

    def submit(self, at_ms: float, *numbers: int, deadline_ms: float = 1000.0, **fields: Any) -> list[InferRequest[Any]]:
        """Requests that arrive at that time."""
        made = [request(number, deadline_ms, arrived_ms=at_ms, **fields) for number in numbers]
        self.feed(at_ms, Submit(KEY, tuple(made)))
        return made

    def done(self, at_ms: float, began_ms: float | None = None) -> None:
        """The oldest batch that runs has ended."""
        batch = self.batches.pop(0)
        self.feed(at_ms, StepDone(batch, None if began_ms is None else began_ms * MS))

    def data(self) -> bytes:
        return b"".join(pieces(HEADER, self.ring.chunks()))

    def recording(self) -> Recording:
        return read(self.data())
