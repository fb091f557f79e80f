"""Who shares a batch where lengths matter is found among all who wait, and groups are kept until they are of no use."""

from __future__ import annotations

import random
from itertools import count

import pytest

from server.core import company
from server.core.lane import Lane
from server.core.policy import WINDOW, cheapest_partition
from server.core.types import Close, InferRequest, Mixing
from tests.server.core.build import costs, lane, request

TOKENS = costs(0.1, 4, max_rows=16, lengths=(1, 100))


def queue(mixing: Mixing, *lengths: int, deadline_ms: float = 1e6) -> Lane[str]:
    """One who waits for each length, in order of urgency."""
    one = lane(TOKENS, mixing, batch_rows=16, queue_rows=10**6)
    one.instances = 1
    for number, length in enumerate(lengths):
        one.waiting.add(request(number, deadline_ms + number, length=length))
    return one


def chosen(one: Lane[str], now: float = 0.0) -> list[int]:
    return [request.id for request in one.choose(now).requests]


def drained(one: Lane[str], numbers: count[int], now: float = 0.0) -> list[tuple[int, ...]]:
    """Batch after batch, each ended at once, until nobody waits."""
    batches = []
    while one.waiting:
        choice = one.choose(now)
        assert choice.requests, "deadlines are far away"
        formed = one._form(choice, now, next(numbers))
        one.finish(formed, now)
        batches.append(tuple(request.id for request in formed.requests))
    return batches


@pytest.fixture
def partitions(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many requests each partition was made from."""
    made: list[int] = []

    def counted(urgent: list[InferRequest[str]], *rest: object) -> object:
        made.append(len(urgent))
        return cheapest_partition(urgent, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(company, "cheapest_partition", counted)
    return made


def test_equal_lengths_are_found_however_far_apart_they_wait() -> None:
    one = queue(Mixing.EQUAL, 7, *range(10, 10 + 3 * WINDOW), 7)
    assert chosen(one) == [0, 3 * WINDOW + 1]


def test_equal_lengths_join_in_the_order_of_their_deadlines() -> None:
    one = queue(Mixing.EQUAL, *[7, 8] * 40)
    assert chosen(one) == list(range(0, 32, 2))
    assert one.choose(0.0).close is Close.FULL


def test_equal_lengths_of_another_priority_do_not_join() -> None:
    one = queue(Mixing.EQUAL, 7, 8, 7)
    one.waiting.add(request(9, 1.0, length=7, priority=1))
    assert chosen(one) == [0, 2]


def test_who_failed_in_company_is_not_found() -> None:
    one = queue(Mixing.EQUAL, 7, 8, 7, 7)
    one.suspects.add(2)
    assert chosen(one) == [0, 3]


def test_in_a_deep_queue_groups_are_made_from_half_of_it(partitions: list[int]) -> None:
    rnd = random.Random(1)
    one = queue(Mixing.PADDED, *[rnd.randint(1, 100) for _ in range(5 * WINDOW)])
    batches = drained(one, count())
    assert sorted(number for batch in batches for number in batch) == list(range(5 * WINDOW))
    assert partitions[0] == 5 * WINDOW // 2
    assert sum(partitions) <= 5 * WINDOW, "each is reckoned with once"


def test_groups_outlive_those_who_leave_them(partitions: list[int]) -> None:
    rnd = random.Random(2)
    one = queue(Mixing.PADDED, *[rnd.randint(1, 100) for _ in range(4 * WINDOW)])
    first = one.choose(0.0).requests
    gone = {first[0].id, first[-1].id, 3 * WINDOW}
    for number in gone:
        one.cancel(next(other for other in one.waiting.first(10**6) if other.id == number))
    assert chosen(one)
    assert len(partitions) <= 1 + (0 in gone)
    batches = drained(one, count())
    assert sorted(number for batch in batches for number in batch) == [n for n in range(4 * WINDOW) if n not in gone]


def test_a_deadline_that_cuts_a_group_makes_new_ones(partitions: list[int]) -> None:
    one = queue(Mixing.PADDED, *[50] * 3 * WINDOW)
    whole = one.choose(0.0).requests
    in_a_hurry = one.waiting.head.deadline_at - one.forecast.at_most_s(len(whole) - 1, 50)
    assert len(one.choose(in_a_hurry).requests) == len(whole) - 1
    one.choose(0.0)
    assert len(partitions) == 2


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("mixing", [Mixing.PADDED, Mixing.EQUAL])
def test_whatever_happens_everybody_is_in_one_batch_or_left(mixing: Mixing, seed: int) -> None:
    rnd = random.Random(seed)
    one = queue(mixing, *[rnd.choice((5, 6, 50, 90)) for _ in range(5 * WINDOW)])
    numbers, ids, ended = count(), count(5 * WINDOW), []
    for _ in range(300):
        what = rnd.random()
        if what < 0.6 or not one.waiting:
            one.waiting.add(
                request(next(ids), rnd.choice((2e6, 5e5)), length=rnd.choice((5, 6, 50)), priority=rnd.random() < 0.02)
            )
        elif what < 0.8:
            left = rnd.choice(one.waiting.first(10**6))
            rnd.choice((one.cancel, one.drop))(left)
            ended.append(left.id)
        else:
            formed = one._form(one.choose(0.0), 0.0, next(numbers))
            ended += [other.id for other in one.finish(formed, 0.0)]
    ended += [number for batch in drained(one, numbers) for number in batch]
    assert sorted(ended) == list(range(next(ids)))
