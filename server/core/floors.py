"""What the floor owes to each priority of one model, so that none starves however much is more urgent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic

from server.core.device import FLOOR
from server.core.types import Batch, InferRequest, Mixing, P
from server.core.waiting import Waiting


class Floors(Generic[P]):
    """Of one model's queue. `rows`: what each priority is owed, by its number; below zero for one that had more than its floor."""

    def __init__(self, waiting: Waiting[P], mixing: Mixing, batch_rows: int) -> None:
        self._waiting = waiting
        self._mixing = mixing
        self._batch_rows = batch_rows
        self.rows: dict[int, float] = {}

    def owed(self) -> list[InferRequest[P]]:
        """The most urgent of each priority, as many as it is owed, whatever is more urgent; something must wait. They join a batch behind
        its head; a whole batch of them goes first. Where lengths matter priorities do not mix: there whoever is owed the rows of a whole
        batch has the next one, however few wait."""
        owed: list[InferRequest[P]] = []
        if not self.rows or not self._waiting.is_mixed:
            return owed
        for head in self._waiting.heads():
            rows = self.rows.get(head.priority, 0.0) if head.priority > self._waiting.head.priority else 0.0
            if self._mixing is not Mixing.ANY and (owed or rows < self._batch_rows):
                continue
            for request in self._waiting.first_of(head.priority, max(0, int(rows))):
                rows -= request.rows
                if rows < 0:
                    break
                owed.append(request)
        return owed

    def put_first(self, owed: Sequence[InferRequest[P]], urgent: Sequence[InferRequest[P]]) -> list[InferRequest[P]]:
        """Those who are owed rows in front of the other urgent ones: behind the head, or before it where they are a whole batch."""
        is_whole = self._mixing is not Mixing.ANY or sum(request.rows for request in owed) >= self._batch_rows
        lead = [] if is_whole else [urgent[0]]
        return [*lead, *owed, *(request for request in urgent if request not in owed and request not in lead)]

    def settle(self, batch: Batch[P]) -> None:
        """Each priority that still waits is owed its floor of the rows of this batch, less those that it got."""
        if not self._waiting or not (self.rows or self._waiting.is_mixed):
            return
        owed: dict[int, float] = {}
        most = float(self._batch_rows)
        for head in self._waiting.heads():
            got = sum([request.rows for request in batch.requests if request.priority == head.priority])
            owed[head.priority] = min(max(-most, self.rows.get(head.priority, 0.0) + FLOOR * batch.rows - got), most)
        self.rows = owed
