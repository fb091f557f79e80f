"""The requests of one model that wait, in order of deadline and then of arrival."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from typing import Generic

from server.core.costs import CostTable
from server.core.types import InferRequest, P

_Entry = tuple[float, int, InferRequest[P], float]  # deadline, id, request, its seconds of work


class Waiting(Generic[P]):
    """Sorted by (deadline_at, id). `rows` and `work_s` are what waits in all, the latter in seconds of one instance."""

    def __init__(self, costs: CostTable) -> None:
        self._costs = costs
        self._entries: list[_Entry[P]] = []
        self.work_s = 0.0
        self.rows = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"<{len(self._entries)} waiting, {self.rows} rows, {self.work_s:.6f} s>"

    @property
    def head(self) -> InferRequest[P]:
        """The most urgent request; there must be one."""
        return self._entries[0][2]

    def first(self, count: int) -> list[InferRequest[P]]:
        """Up to `count` most urgent requests, in order."""
        return [entry[2] for entry in self._entries[:count]]

    def share_before(self, deadline_at: float) -> float:
        """The share of the waiting requests that would run before a newcomer with this deadline."""
        if not self._entries or deadline_at >= self._entries[-1][0]:
            return 1.0
        return bisect_left(self._entries, deadline_at, key=_deadline) / len(self._entries)

    def add(self, request: InferRequest[P]) -> None:
        work_s = request.rows * self._costs.row_s(request.length)
        insort(self._entries, (request.deadline_at, request.id, request, work_s))
        self.rows += request.rows
        self.work_s += work_s

    def remove(self, request: InferRequest[P]) -> bool:
        """False when it does not wait (any more)."""
        place = bisect_left(self._entries, (request.deadline_at, request.id))
        if place == len(self._entries) or self._entries[place][1] != request.id:
            return False
        self._forget(place, place + 1)
        return True

    def take(self, requests: Sequence[InferRequest[P]]) -> None:
        """Remove several, all of which wait."""
        if self.first(len(requests)) == list(requests):
            self._forget(0, len(requests))
            return
        for request in requests:
            found = self.remove(request)
            assert found, f"{request!r} does not wait"

    def _forget(self, start: int, stop: int) -> None:
        gone = self._entries[start:stop]
        del self._entries[start:stop]
        self.rows -= sum(entry[2].rows for entry in gone)
        self.work_s -= sum(entry[3] for entry in gone)
        if not self._entries:
            self.work_s = 0.0  # rounding must not pile up over millions of requests


def _deadline(entry: _Entry[P]) -> float:
    return entry[0]
