"""Who may share the head's batch where lengths matter: found among all who wait, not only the most urgent, and kept while it stays right."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Generic

from server.core.costs import CostTable
from server.core.policy import WINDOW, cheapest_partition
from server.core.types import InferRequest, Mixing, P
from server.core.waiting import Waiting, WaitingByLength

DEEPEST = 1024
"""From how many of the most urgent requests groups by length are made at most: more bring little, and the last of them would wait longest."""


class Company(Generic[P]):
    """Of one model's queue."""

    def __init__(self, waiting: Waiting[P], mixing: Mixing, batch_rows: int) -> None:
        self._waiting = waiting
        self._mixing = mixing
        self._batch_rows = batch_rows
        self._groups: list[Sequence[InferRequest[P]]] = []
        self._group_of: dict[int, int] = {}

    def forget(self) -> None:
        """Lengths cost something else now, or others are to be found."""
        self._groups, self._group_of = [], {}

    def left(self, requests: Collection[InferRequest[P]]) -> None:
        """These do not wait any more; the others of their groups still share a batch."""
        gone = {request.id for request in requests}
        for place in {self._group_of.pop(number) for number in gone if number in self._group_of}:
            self._groups[place] = [one for one in self._groups[place] if one.id not in gone]

    def of(
        self, urgent: Sequence[InferRequest[P]], suspects: Collection[int], costs: CostTable, is_shared: bool
    ) -> Sequence[InferRequest[P]] | None:
        """Of the first of `urgent`, itself among them, without `suspects`; None: whoever suits it of `urgent`."""
        if isinstance(self._waiting, WaitingByLength):
            alike = self._waiting.alike(urgent[0], 2 * self._batch_rows + len(suspects))
            return [one for one in alike if one.id not in suspects] if suspects else alike
        if self._mixing is not Mixing.PADDED or len(self._waiting) < 2 * WINDOW or is_shared or suspects:
            self.forget()
            return None
        return self._group_in_backlog(urgent, costs)

    def _group_in_backlog(self, urgent: Sequence[InferRequest[P]], costs: CostTable) -> Sequence[InferRequest[P]]:
        """The head's group by length, from a partition of no more than half of those who wait: none of the newcomers could join it then.
        Found anew when a head is not in it, so each is reckoned with once, not once a batch."""
        if urgent[0].id not in self._group_of:
            if not self._waiting.is_mixed:
                urgent = self._waiting.first(min(len(self._waiting) // 2, DEEPEST))
            self._groups = list(cheapest_partition(urgent, self._batch_rows, costs))
            self._group_of = {one.id: place for place, group in enumerate(self._groups) for one in group}
        return self._groups[self._group_of[urgent[0].id]]
