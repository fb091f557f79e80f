"""What the floor owes to low priorities, batch by batch; tests/sim/test_floors.py shows what it brings them. At most 8 rows."""

from __future__ import annotations

import pytest

from server.core.device import FLOOR, Device
from server.core.floors import Floors
from server.core.lane import Lane
from server.core.types import InferRequest, Limits, Mixing, ModelKey
from server.core.waiting import Waiting
from tests.server.core.build import batch, costs, ids, request

A = ModelKey("a", 1)


def floors(mixing: Mixing, *waiting: InferRequest[str]) -> Floors[str]:
    queue: Waiting[str] = Waiting(costs())
    for one in waiting:
        queue.add(one)
    return Floors(queue, mixing, 8)


def test_who_waits_is_owed_a_tenth_of_each_batch_less_what_it_got() -> None:
    found = floors(Mixing.ANY, request(1), request(2, priority=1), request(3, priority=2))
    found.settle(batch(*[request(number) for number in range(10, 15)]))
    assert found.rows == pytest.approx({0: 5 * FLOOR - 5, 1: 5 * FLOOR, 2: 5 * FLOOR})
    found.settle(batch(*[request(number) for number in range(20, 24)], request(24, priority=1)))
    assert found.rows == pytest.approx({0: -8, 1: 10 * FLOOR - 1, 2: 10 * FLOOR}), "never below a whole batch"


def test_a_queue_of_one_priority_is_owed_nothing() -> None:
    found = floors(Mixing.ANY, request(1), request(2))
    found.settle(batch(request(3)))
    assert (found.rows, found.owed()) == ({}, [])


def test_nobody_is_owed_more_than_a_whole_batch() -> None:
    found = floors(Mixing.ANY, request(1), request(2, priority=1))
    for _ in range(100):
        found.settle(batch(*[request(number) for number in range(10, 18)]))
    assert found.rows[1] == 8


def test_as_many_are_due_as_rows_are_owed_and_the_most_urgent_never() -> None:
    found = floors(Mixing.ANY, request(1), request(2, priority=1), request(3, priority=1), request(4, priority=2))
    found.rows = {0: 5.0, 1: 1.9, 2: 0.9}
    assert ids(found.owed()) == [2]
    found.rows = {0: 5.0, 1: 2.0, 2: 1.0}
    assert ids(found.owed()) == [2, 3, 4]


@pytest.mark.parametrize("mixing", [Mixing.EQUAL, Mixing.PADDED])
def test_where_lengths_matter_a_whole_batch_must_be_owed_and_one_priority_has_it(mixing: Mixing) -> None:
    first, low = request(1), request(2, priority=1)
    found = floors(mixing, first, low, request(3, priority=2))
    found.rows = {1: 7.9, 2: 7.9}
    assert found.owed() == []
    found.rows = {1: 8.0, 2: 8.0}
    assert ids(found.owed()) == [2]
    assert ids(found.put_first(found.owed(), [first, low])) == [2, 1]


def test_who_is_owed_comes_behind_the_head_until_it_is_a_whole_batch() -> None:
    found = floors(Mixing.ANY)
    owed = [request(number, priority=1) for number in range(20, 28)]
    assert ids(found.put_first(owed[:2], [request(1), request(2), owed[0]])) == [1, 20, 21, 2]
    assert ids(found.put_first(owed, [request(1), request(2)])) == [*range(20, 28), 1, 2]


def test_owed_rows_join_behind_the_head_and_too_late_ones_are_given_up() -> None:
    one = Lane(A, Limits(8, 100), Mixing.ANY, costs(), Device[str]())
    one.instances = 1
    for number in range(20):
        one.waiting.add(request(number, 1000))
    for number in (100, 101):
        one.waiting.add(request(number, 500 + number, priority=1))
    one.floors.rows = {1: 1.5}
    assert ids(one.choose(0.0).requests) == [0, 100, 1, 2, 3, 4, 5, 6]
    one.floors.rows = {1: 8.0}
    assert ids(one.choose(0.0).requests)[:3] == [0, 100, 101]
    late = one.choose(0.595)
    assert (list(late.requests), late.burden) == ([], one.waiting.first_of(1, 1)[0])
