"""Admission, pace, and what a lane remembers of its requests. l(b) = b + 4 ms; a waiting row counts 1.5 ms."""

import math
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.events import Open, Refuse, Run, Submit
from server.core.lane import Lane
from server.core.policy import OVERTAKEN
from server.core.scheduler import Scheduler
from server.core.types import Demand, Limits, Mixing
from tests.server.core.build import KEY, MS, Request, batch, costs, ids, lane, request


def busy_lane(n_waiting: int = 0, queue_rows: int = 100, mixing: Mixing = Mixing.ANY) -> Lane[str]:
    """One instance that runs a row until 5 ms, and so many rows that wait."""
    one = lane(mixing=mixing, queue_rows=queue_rows)
    one.instances = 1
    one.start(batch(request(1)))
    for number in range(n_waiting):
        one.waiting.add(request(100 + number))
    return one


def verdict(refusal: Refuse[str] | None) -> str:
    if refusal is None:
        return "accepted"
    retry = "never" if refusal.retry_after_s is None else f"{refusal.retry_after_s / MS:.3f} ms"
    return f"{refusal.why.value}, retry {retry}"


def test_repr_is_one_line() -> None:
    one = busy_lane(2)
    assert repr(one) == "<m/1 idle 0, running 1, <2 waiting, 2 rows, 0.003000 s>, pace 1.00>"
    one.draining = True
    assert repr(one).startswith("<m/1 draining, running 1")


@pytest.mark.parametrize(
    ("deadline_ms", "n_waiting", "queue_rows", "expected"),
    [
        (4.9, 0, 100, "deadline, retry never"),  # not even alone, at once
        (10.1, 0, 100, "accepted"),  # 5 ms until the device is free, 5 ms alone
        (9.0, 0, 100, "deadline, retry 1.000 ms"),
        (1000.0, 3, 3, "queue_full, retry 9.500 ms"),  # 5 ms and three rows
        (2000.0, 3, 4, "accepted"),
        (2000.0, 8, 100, "accepted"),
    ],
)
def test_admission_by_predicted_end(deadline_ms: float, n_waiting: int, queue_rows: int, expected: str) -> None:
    newcomer = request(2, deadline_ms)
    assert verdict(busy_lane(n_waiting, queue_rows).refusal(newcomer, 0.0)) == expected
    demand = Demand(newcomer.rows, newcomer.length, newcomer.deadline_at)
    why = busy_lane(n_waiting, queue_rows).why_not(demand, 0.0)
    assert verdict(None if why is None else Refuse(newcomer, *why)) == expected, "before it is decoded as well"


@pytest.mark.parametrize(("priority", "expected"), [(-1, "accepted"), (0, "queue_full"), (1, "queue_full")])
def test_a_queue_full_of_the_less_urgent_is_not_full_for_the_more_urgent(priority: int, expected: str) -> None:
    one = busy_lane(queue_rows=4)
    for number, other in enumerate((-1, 0, 0, 1)):
        one.waiting.add(request(100 + number, 2000.0, priority=other))
    assert verdict(one.refusal(request(2, 2000.0, rows=2, priority=priority), 0.0)).partition(",")[0] == expected


@pytest.mark.parametrize(
    ("n_waiting", "deadline_ms", "expected"),
    [
        (7, 17.1, "accepted"),  # 5 ms, a full batch of 12 ms
        (7, 16.9, "deadline, retry 0.100 ms"),
        (8, 29.1, "accepted"),  # a full batch, then one of 12 ms that is full when it is its turn
        (8, 28.9, "deadline, retry 0.100 ms"),
        (20, 41.1, "accepted"),
        (20, 40.9, "deadline, retry 0.100 ms"),
    ],
)
def test_behind_others_the_end_is_predicted_in_whole_batches(n_waiting: int, deadline_ms: float, expected: str) -> None:
    one = busy_lane()
    for number in range(n_waiting):
        one.waiting.add(request(100 + number, 10))
    assert verdict(one.refusal(request(2, deadline_ms), 0.0)) == expected


def test_a_more_urgent_newcomer_does_not_wait_for_the_others() -> None:
    one = busy_lane(50)
    assert verdict(one.refusal(request(2, 10.1), 0.0)) == "accepted", "5 ms, then a batch that may be of its own"
    assert verdict(one.refusal(request(2, 9.9), 0.0)) == "deadline, retry 0.100 ms"


def test_an_idle_device_always_tries() -> None:
    one = lane()
    one.instances = 1
    one.forecast.ratio = 8.0
    assert verdict(one.refusal(request(1, 5.1), 0.0)) == "accepted"


def test_without_any_instance_the_queue_counts_alone() -> None:
    one = lane()
    assert verdict(one.refusal(request(1, 5.1), 0.0)) == "accepted"
    assert one.retry_after(0.0) == 0.0


def test_two_instances_share_the_work() -> None:
    one = busy_lane(20)
    alone_s = one.retry_after(0.0)
    one.instances = 2
    one.start(batch(request(2), number=2, formed_ms=1))
    assert math.isclose(one.retry_after(0.0), 0.005 + (alone_s - 0.005) / 2)


def test_an_overdue_batch_is_expected_any_moment() -> None:
    assert math.isclose(busy_lane(2).retry_after(0.100), 2 * 1.5 * MS)


def test_lengths_are_predicted_without_company() -> None:
    table = costs(0.01, 1, lengths=(1, 100))
    one = lane(table, Mixing.PADDED)
    one.instances = 1
    one.start(batch(request(1, length=100)))
    one.waiting.add(request(2, 4, length=100))
    predicted_ms = 2 + OVERTAKEN * table.row_s(100) / MS + 1.1  # the running batch, the row that waits, a batch of its own
    assert verdict(one.refusal(request(3, predicted_ms + 0.001, length=10), 0.0)) == "accepted"
    assert verdict(one.refusal(request(3, predicted_ms - 0.1, length=10), 0.0)) == "deadline, retry 0.100 ms"


def test_nothing_is_learnt_from_a_guess() -> None:
    one = lane()
    one.instances, one.limits = 1, Limits(8, 100, ahead=2)
    for number in (1, 2, 3):
        one.start(batch(request(number), number=number))
    one.learn(batch(request(2), number=2), None, 0.020)
    assert one.forecast.ratio == 1.0, "nobody saw when the batch formed ahead began"
    one.learn(batch(request(2), number=2), 0.010, 0.020)
    assert one.forecast.ratio == pytest.approx(2.0)
    one.learn(batch(request(1)), None, 0.005)
    assert one.forecast.ratio == pytest.approx(1.5), "the first began when it was formed"


def test_a_slow_device_does_not_shorten_the_latest_start() -> None:
    one = lane()
    assert math.isclose(one.latest_start(request(1, 20)), 0.015)
    one.forecast.ratio = 8.0
    assert math.isclose(one.latest_start(request(1, 20)), 0.015)
    one.forecast.ratio = 0.5
    assert math.isclose(one.latest_start(request(1, 20)), 0.0175)


def test_finish_returns_those_who_still_want_an_answer() -> None:
    one = lane()
    one.instances = 1
    first, second = request(1), request(2)
    both = batch(first, second)
    one.start(both)
    assert one.finish(both, 0.007) == (first, second)
    assert one.idle == 1
    one.start(both)
    one.cancel(first)
    assert one.finish(both, 0.007) == (second,)


def test_a_batch_formed_ahead_counts_from_when_an_instance_took_it() -> None:
    one = lane()
    one.instances, one.limits = 1, Limits(8, 100, ahead=1)
    one.start(batch(request(1)))
    assert one.ahead_at == pytest.approx(0.00375), "when a quarter of the 5 ms is left"
    assert math.isclose(one.free_at(0.001), 0.005)
    ahead = batch(request(2), number=2, formed_ms=1)
    one.start(ahead)
    assert one.ahead_at is None, "one is enough"
    assert math.isclose(one.free_at(0.001), 0.010), "after the one that runs and the one formed ahead"
    one.finish(batch(request(1)), 0.006)
    assert math.isclose(one.free_at(0.006), 0.011), "the first batch was late, so the next is"


def test_nothing_is_formed_ahead_of_no_instance() -> None:
    one = lane()
    one.limits = Limits(8, 100, ahead=1)
    one.add_instance(0.0)
    one.start(batch(request(1)))
    one.start(batch(request(2), number=2))
    one.remove_instance()
    one.finish(batch(request(1)), 0.005)
    assert not one.running[2].began, "it waits for a new instance"
    assert one.ahead_at is None
    one.add_instance(0.007)
    assert one.running[2].began
    assert one.running[2].expected_at == pytest.approx(0.012)


def test_finishing_what_does_not_run_is_a_bug() -> None:
    one = busy_lane()
    with pytest.raises(AssertionError, match=r"<batch 7: 9 .* does not run"):
        one.finish(batch(request(9), number=7), 0.0)


def test_cancel_of_a_waiting_a_running_and_an_unknown_request() -> None:
    one = busy_lane()
    waits: Request = request(5)
    one.retry_alone((waits,))
    assert one.suspects == {5}
    one.cancel(waits)
    assert not one.waiting
    assert not one.suspects
    one.cancel(request(1))
    assert one.running[1].wanted == set()
    one.cancel(request(77))
    assert len(one.running) == 1


def test_suspects_run_alone_and_the_others_without_them() -> None:
    one = lane(batch_rows=2)
    good = [request(number, 500 + number) for number in (4, 5, 6)]
    for each in good:
        one.waiting.add(each)
    one.retry_alone((request(1, 10), request(2, 501)))
    choice = one.choose(0.0)
    assert (ids(choice.requests), choice.close.value) == ([1], "alone")
    one.waiting.take(choice.requests)
    one.start(batch(*choice.requests))
    assert one.suspects == {2}
    one.waiting.remove(good[0])
    one.drop(one.waiting.head)
    assert not one.suspects
    choice = one.choose(0.0)
    assert (ids(choice.requests), choice.close.value) == ([5, 6], "idle")


def test_a_suspect_inside_the_window_is_left_out_of_the_batch() -> None:
    one = lane(batch_rows=3)
    for number in (1, 3, 4):
        one.waiting.add(request(number, number))
    one.retry_alone((request(2, 2),))
    choice = one.choose(-1.0)
    assert (ids(choice.requests), choice.close.value) == ([1, 3, 4], "idle")


@given(
    newcomers=st.lists(st.tuples(st.integers(3, 40), st.integers(1, 4), st.integers(0, 1)), min_size=2, max_size=9),
    alpha_ms=st.sampled_from([0.1, 1.0, 8.0]),
    pace=st.floats(0.5, 2.0),
    queue_rows=st.integers(1, 20),
)
def test_newcomers_who_meet_nobody_share_the_batch_that_the_queue_would_have_made(
    newcomers: list[tuple[int, int, int]], alpha_ms: float, pace: float, queue_rows: int
) -> None:
    requests = [request(number, deadline, rows, priority=urgency) for number, (deadline, rows, urgency) in enumerate(newcomers)]
    table = costs(alpha_ms)
    by_queue: Scheduler[str] = Scheduler()
    by_queue.handle(Open(KEY, Limits(8, queue_rows), Mixing.ANY, table), 0.0)
    others = by_queue.lane(KEY)
    others.start_together = lambda *_: None  # type: ignore[method-assign]  # so that all must queue
    one = lane(table, queue_rows=queue_rows)
    for each in (one, others):
        each.instances = 1
        for _ in range(4):
            each.forecast.learn(8, 0, pace * table.batch_s(8, 0))
    started = one.start_together(requests, 0.0, count(1).__next__)
    queued = by_queue.handle(Submit(KEY, tuple(requests)), 0.0)
    if started is not None:
        (also,) = queued
        assert isinstance(started, Run)
        assert isinstance(also, Run)
        assert (ids(started.batch.requests), started.batch.close) == (ids(also.batch.requests), also.batch.close)
        assert repr(one) == repr(others)


def test_newcomers_need_no_queue_where_they_fit_into_one_batch_in_time() -> None:
    numbers = count(1).__next__
    one = lane()
    one.instances = 1
    assert one.start_together([request(1, 100), request(2, 10.9)], 0.0, numbers) is not None
    late, large, mixed = (
        [request(3), request(4, 5.9)],
        [request(5, rows=5), request(6, rows=4)],
        [request(7), request(8, priority=1)],
    )
    for newcomers in ([], late, large, mixed):
        fresh = lane()
        fresh.instances = 1
        assert fresh.start_together(newcomers, 0.0, numbers) is None
        assert fresh.is_at_rest
