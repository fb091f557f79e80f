"""Which of the waiting requests go into the next batch. Pure functions over the most urgent requests.

Every batch holds the most urgent request; what joins it is decided by measured cost, never by a timer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from server.core.costs import CostTable
from server.core.forecast import Forecast
from server.core.types import Close, Demand, InferRequest, Limits, Mixing, P

WINDOW = 128
"""How many of the most urgent requests are partitioned by length for one batch: bounds the work. In a deep queue a partition serves many
batches, so it is made from more."""

KEEP = 0.98
"""A head is kept while the batch that its deadline allows has this share of the best rate that is possible without it."""

OVERTAKEN = 1.5
"""Where lengths decide who joins a batch, a newcomer is reckoned to wait for so many times the work before it: others overtake. With groups of k
from the more urgent half of a queue, those of its first kth wait for up to 1 + (1 - 1 / k) / 2 times."""


class Choice(NamedTuple):
    """Requests to run together, and why no more of them. Without requests: give `burden` up and choose again."""

    requests: Sequence[InferRequest[P]]  # type: ignore[valid-type]  # NamedTuple cannot be generic and typed before 3.12
    close: Close
    burden: InferRequest[P] | None = None  # type: ignore[valid-type]


def choose(
    urgent: Sequence[InferRequest[P]], n_waiting: int, mixing: Mixing, limits: Limits, forecast: Forecast, now: float,
    another_at: float = float("inf"), alike: Sequence[InferRequest[P]] | None = None,
) -> Choice:  # fmt: skip
    """The batch to run now.

    `urgent`: the most urgent requests in order, out of `n_waiting`. `another_at`: when another instance is free. `alike`: whose lengths
    suit the head's, the head among them, where that is known: its group in a cheapest partition, or all of its own length, in order.
    The head is always part of the choice; the others join only while the head stays in time. A head that is left so
    little time that its batch would shrink, and the next ones' in turn, is given up: otherwise an overloaded device
    ends up running nothing but small batches.
    """
    company: Sequence[InferRequest[P]]
    if mixing is Mixing.PADDED:
        company = alike or group_of_head(cheapest_partition(urgent, limits.batch_rows, forecast.costs), urgent[0])
        all_fit = Close.IDLE if len(company) == n_waiting else _why_no_more(company, limits, forecast.costs)
        choice = _fit_by_length(company, urgent[0], forecast, now, all_fit)
    else:
        company = urgent if mixing is Mixing.ANY else alike or [one for one in urgent if one.length == urgent[0].length]
        others_wait = Close.FULL if mixing is Mixing.ANY else Close.LENGTH
        all_fit = Close.IDLE if len(company) == n_waiting else others_wait
        choice = _fit_in_order(company, limits, forecast, now, all_fit)
    if choice.close is Close.DEADLINE:
        equals, urgent = of_one_priority(company), of_one_priority(urgent)
        if _is_burden(choice.requests, equals, urgent, limits, forecast, now, another_at):
            return Choice((), Close.DEADLINE, urgent[0])
    return choice


def is_complete(rows: int, close: Close, mixing: Mixing, limits: Limits, n_waiting: int) -> bool:
    """Whether requests yet to come would not make a batch better, so that it may be formed before an instance is free.

    Without lengths that is a full batch, or one that the deadline of its head keeps small: others wait that had to be left out. Groups of
    neighbours by length never grow past the knee; and a window that is full admits nobody who is less urgent.
    """
    if rows >= limits.batch_rows or close is Close.FULL:
        return True
    if mixing is Mixing.PADDED:
        return close is Close.KNEE or (close is Close.LENGTH and n_waiting >= WINDOW)
    return mixing is Mixing.ANY and close is Close.DEADLINE


def _fit_in_order(alike: Sequence[InferRequest[P]], limits: Limits, forecast: Forecast, now: float, all_fit: Close) -> Choice:
    """The longest affordable prefix of equal-length requests: the full batch under backlog, else up to the knee."""
    head = alike[0]
    most, backlog = most_rows(head, sum(request.rows for request in alike), limits, forecast)
    rows, count, close = head.rows, 1, all_fit
    first = head
    for request in alike[1:]:
        if rows + request.rows > most:
            close = Close.FULL if backlog else Close.KNEE
            break
        if request.deadline_at < first.deadline_at:  # of a lower priority, so it must not shrink the batch
            if not in_time(request, rows + request.rows, head.length, forecast, now):
                close = Close.PRIORITY
                break
            first = request
        rows, count = rows + request.rows, count + 1
    while count > 1 and not in_time(first, rows, head.length, forecast, now):
        rows, count, close = rows - alike[count - 1].rows, count - 1, Close.DEADLINE
    return Choice(alike[:count], close)


def most_rows(head: InferRequest[P], n_rows: int, limits: Limits, forecast: Forecast) -> tuple[int, bool]:
    """How many of `n_rows` rows of one length a batch may have, and whether that is as many as under backlog."""
    full = max(min(forecast.full(head.length), limits.batch_rows), head.rows)
    return (full, True) if n_rows >= full else (max(forecast.knee(head.length), head.rows), False)


def behind(
    n_rows: int, work_s: float, request: InferRequest[P] | Demand, mixing: Mixing, limits: Limits, forecast: Forecast, n_instances: int
) -> tuple[float, float]:  # fmt: skip
    """How many seconds a newcomer waits behind so many rows, or so much work of one instance, until its own batch begins; and what that takes.

    Where any may share a batch nobody overtakes, so whole batches go before it, and one that waits for such a batch will see its own filled
    too: to count rows instead of batches would let too many in, who are given up after they have waited. Who shares a batch keeps the guard.
    """
    instances = max(1, n_instances)
    if mixing is not Mixing.ANY:
        times = OVERTAKEN if limits.batch_rows > 1 else 1.0  # alone all go in order
        return times * forecast.ratio * work_s / instances, forecast.takes_s(request.rows, request.length)
    full = max(min(forecast.best(request.length), limits.batch_rows), request.rows)
    n_batches, n_beside = divmod(n_rows + request.rows - 1, full)
    if n_batches:
        return n_batches * forecast.takes_s(full, request.length) / instances, forecast.at_most_s(full, request.length)
    rows = n_beside + 1
    return 0.0, forecast.takes_s(rows, request.length) if rows == request.rows else forecast.at_most_s(rows, request.length)


def _fit_by_length(
    group: Sequence[InferRequest[P]], head: InferRequest[P], forecast: Forecast, now: float, all_fit: Close
) -> Choice:
    """The group, sorted by length, without those least like the head, until the head is in time."""
    kept, rows, close = list(group), sum(request.rows for request in group), all_fit
    while len(kept) > 1 and not in_time(head, rows, kept[-1].length, forecast, now):
        rows -= kept.pop(-1 if kept[-1] is not head else 0).rows
        close = Close.DEADLINE
    return Choice(kept, close)


def _is_burden(
    chosen: Sequence[InferRequest[P]], company: Sequence[InferRequest[P]], urgent: Sequence[InferRequest[P]], limits: Limits,
    forecast: Forecast, now: float, another_at: float,
) -> bool:  # fmt: skip
    """Whether the head should be given up rather than run in a batch that its deadline made small.

    That is so when a batch that starts with a later one of `company`, which could have run together without deadlines,
    would have a clearly better rate, and the next head could not have such a batch after the small one: then small
    batches would follow from small batches.
    """
    rows, length = sum(request.rows for request in chosen), max(request.length for request in company)
    takes_s = forecast.takes_s(rows, length)
    best, best_rows = 0.0, 0
    in_time_rows, rows_left = 0, sum(request.rows for request in company)
    for request in sorted(company, key=_urgency):
        while in_time_rows < limits.batch_rows and in_time(request, in_time_rows + 1, length, forecast, now):
            in_time_rows += 1
        possible = min(in_time_rows, rows_left)
        if possible and possible / forecast.takes_s(possible, length) > best:
            best, best_rows = possible / forecast.takes_s(possible, length), possible
        rows_left -= request.rows
    if rows / takes_s >= KEEP * best:
        return False
    next_head = next((request for request in urgent if request not in chosen), None)
    return next_head is not None and not in_time(next_head, best_rows, length, forecast, min(another_at, now + takes_s))


def in_time(head: InferRequest[P], rows: int, length: int, forecast: Forecast, now: float) -> bool:
    """Whether a batch of this size, started now, ends before the head's deadline, with the guard for a slow run."""
    return now + forecast.at_most_s(rows, length) <= head.deadline_at


def cheapest_partition(urgent: Sequence[InferRequest[P]], batch_rows: int, costs: CostTable) -> list[Sequence[InferRequest[P]]]:
    """The requests in the groups of neighbours by length that cost least in all.

    Batches of unequal lengths are padded to the longest, so a cheap partition never joins far-apart lengths; and where
    a larger batch brings no higher rate, it joins nothing at all.

    Dynamic program over the sorted requests: least[i] is the least cost of the first i, cut[i] where its last group
    starts. A group grows only while its rows still raise the rate at its longest length, which keeps this near linear.
    """
    by_length = sorted(urgent, key=_length)
    all_rows = [request.rows for request in by_length]
    least = [0.0]
    cut = [0]
    for stop, last in enumerate(by_length, 1):
        line = costs.line(last.length)
        most = min(batch_rows, max(costs.knee(last.length), all_rows[stop - 1]))
        rows, best, best_start = 0, float("inf"), stop - 1
        for start in range(stop - 1, -1, -1):
            rows += all_rows[start]
            if rows > most:
                break
            cost = least[start] + line[rows - 1]
            if cost < best:
                best, best_start = cost, start
        least.append(best)
        cut.append(best_start)
    groups: list[Sequence[InferRequest[P]]] = []
    stop = len(by_length)
    while stop:
        groups.append(by_length[cut[stop] : stop])
        stop = cut[stop]
    return groups


def group_of_head(groups: Iterable[Sequence[InferRequest[P]]], head: InferRequest[P]) -> Sequence[InferRequest[P]]:
    """The one that holds it."""
    return next(group for group in groups if head in group)


def of_one_priority(urgent: Sequence[InferRequest[P]]) -> list[InferRequest[P]]:
    """Those of the first one's priority: where lengths decide who joins, priorities do not mix."""
    first = urgent[0].priority
    return [request for request in urgent if request.priority == first]


def _why_no_more(group: Sequence[InferRequest[P]], limits: Limits, costs: CostTable) -> Close:
    rows = sum(request.rows for request in group)
    if rows >= limits.batch_rows:
        return Close.FULL
    return Close.KNEE if rows >= costs.knee(group[-1].length) else Close.LENGTH


def _length(request: InferRequest[P]) -> int:
    return request.length


def _urgency(request: InferRequest[P]) -> tuple[float, int]:
    return request.deadline_at, request.id
