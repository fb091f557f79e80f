"""The requests of one model that wait, in order of priority, then of deadline, then of arrival."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from typing import Generic, Protocol, cast

from server.core.types import GenerateRequest, InferRequest, P

_Entry = tuple[int, float, int, InferRequest[P], float]  # priority, deadline, id, request, its seconds of work

_LAST = float("inf")  # behind every id


class PerRow(Protocol):
    """Knows what a waiting row of a length adds to the work: a CostTable does."""

    def row_s(self, length: int) -> float: ...


class Waiting(Generic[P]):
    """Sorted by (priority, deadline_at, id). `rows` and `work_s` are what waits in all, the latter in seconds of one instance."""

    def __init__(self, costs: PerRow) -> None:
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
        return self._entries[0][3]

    @property
    def is_mixed(self) -> bool:
        """Whether more than one priority waits; something must wait."""
        return self._entries[0][0] != self._entries[-1][0]

    def heads(self) -> Iterator[InferRequest[P]]:
        """The most urgent request of each priority."""
        place = 0
        while place < len(self._entries):
            yield self._entries[place][3]
            if self._entries[place][0] == self._entries[-1][0]:
                return
            place = bisect_left(self._entries, (self._entries[place][0] + 1,))

    def first(self, count: int) -> list[InferRequest[P]]:
        """Up to `count` most urgent requests, in order."""
        return [entry[3] for entry in self._entries[:count]]

    def first_of(self, priority: int, count: int) -> list[InferRequest[P]]:
        """Up to `count` most urgent requests of one priority."""
        start = bisect_left(self._entries, (priority,))
        return [entry[3] for entry in self._entries[start : start + count] if entry[0] == priority]

    def share_before(self, priority: int, deadline_at: float) -> float:
        """The share of the waiting requests that would run before a newcomer of this priority with this deadline."""
        place = (priority, deadline_at, _LAST)
        if not self._entries or place >= self._entries[-1]:
            return 1.0
        return bisect_left(self._entries, place) / len(self._entries)

    def add(self, request: InferRequest[P]) -> None:
        work_s = request.rows * self._costs.row_s(request.length)
        insort(self._entries, (request.priority, request.deadline_at, request.id, request, work_s))
        self.rows += request.rows
        self.work_s += work_s

    def remove(self, request: InferRequest[P]) -> bool:
        """False when it does not wait (any more)."""
        place = bisect_left(self._entries, (request.priority, request.deadline_at, request.id))
        if place == len(self._entries) or self._entries[place][2] != request.id:
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

    def recost(self, costs: PerRow) -> None:
        """Reckon the work that waits by other costs."""
        self._costs = costs
        self._entries = [(*entry[:4], entry[3].rows * costs.row_s(entry[3].length)) for entry in self._entries]
        self.work_s = sum([entry[4] for entry in self._entries])

    def _forget(self, start: int, stop: int) -> None:
        gone = self._entries[start:stop]
        del self._entries[start:stop]
        self.rows -= sum([entry[3].rows for entry in gone])
        self.work_s -= sum([entry[4] for entry in gone])
        if not self._entries:
            self.work_s = 0.0  # rounding must not pile up over millions of requests


class WaitingByLength(Waiting[P]):
    """Likewise, where only equal lengths may share a batch: knows who is of a length, however far apart they wait."""

    def __init__(self, costs: PerRow) -> None:
        super().__init__(costs)
        self._alike: dict[tuple[int, int], list[tuple[float, int, InferRequest[P]]]] = {}

    def alike(self, request: InferRequest[P], count: int) -> list[InferRequest[P]]:
        """Up to `count` most urgent requests of this one's length and priority."""
        return [one for _, _, one in self._alike[request.priority, request.length][:count]]

    def add(self, request: InferRequest[P]) -> None:
        super().add(request)
        alike = self._alike.setdefault((request.priority, request.length), [])
        insort(alike, (request.deadline_at, request.id, request))

    def _forget(self, start: int, stop: int) -> None:
        for _, _, _, request, _ in self._entries[start:stop]:
            alike = self._alike[request.priority, request.length]
            del alike[bisect_left(alike, (request.deadline_at, request.id))]
            if not alike:
                del self._alike[request.priority, request.length]
        super()._forget(start, stop)


class Newcomers(Waiting[P]):
    """Those who wait for a slot where they stay. `room`: tokens that will be kept for them, all together."""

    def __init__(self, costs: PerRow) -> None:
        super().__init__(costs)
        self.room = 0

    def add(self, request: InferRequest[P]) -> None:
        assert isinstance(request, GenerateRequest), f"{request!r} takes one step only"
        super().add(request)
        self.room += request.room

    def first_few(self, count: int) -> list[GenerateRequest[P]]:
        """Up to `count` most urgent requests, in order."""
        return cast("list[GenerateRequest[P]]", self.first(count))  # add() takes no others

    def head_of(self, priority: int) -> list[GenerateRequest[P]]:
        """The most urgent of one priority, if any waits."""
        return cast("list[GenerateRequest[P]]", self.first_of(priority, 1))

    def _forget(self, start: int, stop: int) -> None:
        gone = cast("list[GenerateRequest[P]]", [entry[3] for entry in self._entries[start:stop]])
        self.room -= sum([request.room for request in gone])
        super()._forget(start, stop)
