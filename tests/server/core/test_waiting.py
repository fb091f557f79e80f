"""The queue: against a naive sorted list, whatever is done to it."""

import math
import random
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from server.core.waiting import Newcomers, Waiting, WaitingByLength
from tests.server.core.build import Request, costs, prompt, request

COSTS = costs(lengths=(1, 16))


def waiting(*requests: Request) -> WaitingByLength[str]:
    queue: WaitingByLength[str] = WaitingByLength(COSTS)
    for one in requests:
        queue.add(one)
    return queue


def work_s(requests: list[Request]) -> float:
    return math.fsum(one.rows * COSTS.row_s(one.length) for one in requests)


def urgency(one: Request) -> tuple[int, float, int]:
    return one.priority, one.deadline_at, one.id


class AgainstAList(RuleBasedStateMachine):
    """Every operation, mirrored in a list that is sorted each time."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = waiting()
        self.model: list[Request] = []
        self.gone: list[Request] = []
        self.n_made = 0

    @rule(deadline=st.integers(1, 5), rows=st.integers(1, 3), length=st.integers(1, 16), priority=st.integers(-1, 1))
    def add(self, deadline: int, rows: int, length: int, priority: int) -> None:
        self.n_made += 1
        one = request(self.n_made, deadline, rows, length, priority=priority)
        self.queue.add(one)
        self.model = sorted([*self.model, one], key=urgency)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def remove(self, data: Any) -> None:
        one = data.draw(st.sampled_from(self.model))
        assert self.queue.remove(one)
        self.model.remove(one)
        self.gone.append(one)

    @precondition(lambda self: self.gone)
    @rule(data=st.data())
    def remove_what_is_absent(self, data: Any) -> None:
        assert not self.queue.remove(data.draw(st.sampled_from(self.gone)))

    @precondition(lambda self: self.gone)
    @rule()
    def put_back(self) -> None:
        one = self.gone.pop()
        self.queue.add(one)
        self.model = sorted([*self.model, one], key=urgency)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def take_any(self, data: Any) -> None:
        some = data.draw(st.lists(st.sampled_from(self.model), unique=True, max_size=4))
        self.queue.take(some)
        self.model = [one for one in self.model if one not in some]
        self.gone += some

    @precondition(lambda self: self.model)
    @rule(count=st.integers(1, 4))
    def take_first(self, count: int) -> None:
        some = self.queue.first(count)
        self.queue.take(some)
        self.model, self.gone = self.model[count:], self.gone + some

    @invariant()
    def same_as_the_list(self) -> None:
        assert len(self.queue) == len(self.model)
        assert bool(self.queue) == bool(self.model)
        assert self.queue.first(1000) == self.model
        assert self.queue.rows == sum(one.rows for one in self.model)
        assert math.isclose(self.queue.work_s, work_s(self.model), rel_tol=1e-9)
        if self.model:
            assert self.queue.head is self.model[0]
            heads = {one.priority: one for one in reversed(self.model)}
            assert list(self.queue.heads()) == [heads[priority] for priority in sorted(heads)]
            assert self.queue.is_mixed == (len(heads) > 1)
        for one in self.model:
            of_its_length = [other for other in self.model if (other.priority, other.length) == (one.priority, one.length)]
            assert self.queue.alike(one, 2) == of_its_length[:2]
        for priority in (-1, 0, 1):
            alike = [one for one in self.model if one.priority == priority]
            assert self.queue.first_of(priority, 3) == alike[:3]


AgainstAList.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAgainstAList = AgainstAList.TestCase


def test_repr_counts() -> None:
    assert repr(waiting(request(1, rows=2, length=1), request(2, length=1))) == "<2 waiting, 3 rows, 0.004500 s>"


def test_the_share_before_a_newcomer() -> None:
    queue = waiting()
    assert queue.share_before(0, 1.0) == 1.0
    for number, deadline in enumerate((10, 20, 30, 40)):
        queue.add(request(number, deadline, length=1))
    assert [queue.share_before(0, ms / 1000) for ms in (5, 10, 25, 35, 40, 50)] == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]


def test_what_has_a_higher_priority_is_before_a_newcomer_whatever_its_deadline() -> None:
    queue = waiting(request(1, 50, length=1, priority=1), request(2, 90, length=1), request(3, 10, length=1, priority=2))
    assert [queue.share_before(priority, 0.02) for priority in (0, 1, 2, 3)] == [0.0, 1 / 3, 1.0, 1.0]


def test_the_sum_of_work_does_not_drift() -> None:
    rnd = random.Random(1)
    queue, model = waiting(), []
    for number in range(20_000):
        one = request(number, rnd.random() * 1e6, rnd.randint(1, 3), rnd.randint(1, 16))
        queue.add(one)
        model.append(one)
        if len(model) > 50:
            queue.remove(model.pop(rnd.randrange(50)))
    assert math.isclose(queue.work_s, work_s(model), rel_tol=1e-9)
    queue.take(queue.first(100))
    assert queue.work_s == 0.0


def test_taking_what_does_not_wait_is_a_bug() -> None:
    with pytest.raises(AssertionError, match=r"<#9 .* does not wait"):
        waiting(request(1)).take([request(9)])


def test_newcomers_know_the_room_that_they_will_need() -> None:
    queue: Newcomers[str] = Newcomers(COSTS)
    first, second, third = prompt(1, 10, length=10, new_tokens=5), prompt(2, 5, length=7), prompt(3, priority=1)
    for one in (first, second, third):
        queue.add(one)
    assert queue.room == 15 + 12 + 15
    assert queue.first_few(2) == [second, first]
    assert queue.head_of(1) == [third]
    assert queue.head_of(2) == []
    queue.remove(first)
    assert queue.room == 12 + 15


def test_work_is_reckoned_anew_by_other_costs() -> None:
    waiting: Waiting[str] = Waiting(costs())
    for number in range(3):
        waiting.add(request(number, rows=2))
    waiting.recost(costs(alpha_ms=10, beta_ms=0.5))
    assert waiting.work_s == pytest.approx(6 * 80.5 / 8 * 1e-3)
    waiting.take(waiting.first(3))
    assert waiting.work_s == 0.0
