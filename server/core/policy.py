"""Which of the waiting requests go into the next batch. Pure functions over the most urgent requests.

Every batch holds the most urgent request; what joins it is decided by measured cost, never by a timer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from server.core.costs import CostTable
from server.core.types import Close, InferRequest, Limits, Mixing, P

WINDOW = 128
"""How many of the most urgent requests a batch is chosen from: bounds both the work and how far one may be overtaken."""


KEEP = 0.98
"""A head is kept while the batch that its deadline allows has this share of the best rate that is possible without it."""


class Choice(NamedTuple):
    """Requests to run together, and why no more of them. Without requests: give the most urgent one up and choose again."""

    requests: Sequence[InferRequest[P]]  # type: ignore[valid-type]  # NamedTuple cannot be generic and typed before 3.12
    close: Close


def choose(
    urgent: Sequence[InferRequest[P]], n_waiting: int, mixing: Mixing, limits: Limits, costs: CostTable,
    pace: float, now: float,
) -> Choice:  # fmt: skip
    """The batch to run now.

    `urgent`: the most urgent requests in order, out of `n_waiting`. `pace`: measured ÷ predicted time.
    The head is always part of the choice; the others join only while the head stays in time. A head that is left so
    little time that the batch would shrink far below what the next ones could have is given up: kept, it would make
    those late in turn, until an overloaded device runs nothing but small batches.
    """
    if mixing is Mixing.ANY:
        return _choose_in_order(urgent, n_waiting, limits, costs, pace, now, Close.IDLE)
    if mixing is Mixing.EQUAL:
        alike = [request for request in urgent if request.length == urgent[0].length]
        rest = Close.IDLE if len(alike) == n_waiting else Close.LENGTH
        return _choose_in_order(alike, len(alike), limits, costs, pace, now, rest)
    return _choose_by_length(urgent, n_waiting, limits, costs, pace, now)


def _choose_in_order(
    urgent: Sequence[InferRequest[P]], n_waiting: int, limits: Limits, costs: CostTable,
    pace: float, now: float, exhausted: Close,
) -> Choice:  # fmt: skip
    """The longest affordable prefix of equal-length requests: the full batch under backlog, else up to the knee."""
    head = urgent[0]
    backlog = sum(request.rows for request in urgent) >= limits.batch_rows
    most = limits.batch_rows if backlog else max(costs.knee(head.length), head.rows)
    rows, count, close = head.rows, 1, exhausted if len(urgent) == n_waiting else Close.FULL
    for request in urgent[1:]:
        if rows + request.rows > most:
            close = Close.FULL if backlog else Close.KNEE
            break
        rows, count = rows + request.rows, count + 1
    n_before = count
    while count > 1 and not in_time(head, rows, head.length, costs, pace, now):
        rows, count, close = rows - urgent[count - 1].rows, count - 1, Close.DEADLINE
    if count < n_before and _is_burden(urgent, head.length, limits, costs, pace, now):
        return Choice((), Close.DEADLINE)
    return Choice(urgent[:count], close)


def _is_burden(
    urgent: Sequence[InferRequest[P]], length: int, limits: Limits, costs: CostTable, pace: float, now: float
) -> bool:
    """Whether one of the batches that could start with a later request has a clearly better rate than the head's."""
    line = costs.line(length)
    rates = []
    in_time_rows, rows_left = 0, sum(request.rows for request in urgent)
    for request in urgent:
        while in_time_rows < limits.batch_rows and in_time(request, in_time_rows + 1, length, costs, pace, now):
            in_time_rows += 1
        rows = min(in_time_rows, rows_left)
        rates.append(rows / line[rows - 1] if rows else 0.0)
        rows_left -= request.rows
    return rates[0] < KEEP * max(rates)


def in_time(head: InferRequest[P], rows: int, length: int, costs: CostTable, pace: float, now: float) -> bool:
    """Whether a batch of this size, started now, ends before the head's deadline, with the guard for a slow run."""
    return now + pace * costs.batch_s(rows, length) + costs.guard_s(rows, length) <= head.deadline_at


def _choose_by_length(
    urgent: Sequence[InferRequest[P]], n_waiting: int, limits: Limits, costs: CostTable, pace: float, now: float
) -> Choice:
    """The group of the head in the partition of the window, sorted by length, that costs least in all.

    Batches of unequal lengths are padded to the longest, so a cheap partition never joins far-apart lengths; and where
    a larger batch brings no higher rate, it joins nothing at all. Then the least alike leave until the head is in time.
    """
    head = urgent[0]
    by_length = sorted(urgent, key=_length)
    start, stop = _group_of(by_length.index(head), by_length, limits.batch_rows, costs)
    group = by_length[start:stop]
    close = Close.IDLE if len(group) == n_waiting else _why_no_more(group, limits, costs)
    whole = list(group)
    while len(group) > 1:
        rows = sum(request.rows for request in group)
        if in_time(head, rows, group[-1].length, costs, pace, now):
            break
        close = Close.DEADLINE
        group.remove(group[-1] if group[-1] is not head else group[0])
    if close is Close.DEADLINE:
        in_order = [request for request in urgent if request in whole]
        if _is_burden(in_order, whole[-1].length, limits, costs, pace, now):
            return Choice((), Close.DEADLINE)
    return Choice(group, close)


def _why_no_more(group: Sequence[InferRequest[P]], limits: Limits, costs: CostTable) -> Close:
    rows = sum(request.rows for request in group)
    if rows >= limits.batch_rows:
        return Close.FULL
    return Close.KNEE if rows >= costs.knee(group[-1].length) else Close.LENGTH


def _group_of(
    place: int, by_length: Sequence[InferRequest[P]], batch_rows: int, costs: CostTable
) -> tuple[int, int]:
    """Bounds of the group that holds `place` in the cheapest partition into runs of neighbours.

    Dynamic program over the sorted requests: least[i] is the least cost of the first i, cut[i] where its last group
    starts. A group grows only while its rows still raise the rate at its longest length, which keeps this near linear.
    """
    least = [0.0]
    cut = [0]
    for stop, last in enumerate(by_length, 1):
        line = costs.line(last.length)
        most = min(batch_rows, max(costs.knee(last.length), last.rows))
        rows, best, best_start = 0, float("inf"), stop - 1
        for start in range(stop - 1, -1, -1):
            rows += by_length[start].rows
            if rows > most:
                break
            cost = least[start] + line[rows - 1]
            if cost < best:
                best, best_start = cost, start
        least.append(best)
        cut.append(best_start)
    stop = len(by_length)
    while cut[stop] > place:
        stop = cut[stop]
    return cut[stop], stop


def _length(request: InferRequest[P]) -> int:
    return request.length
