"""A lane whose costs are not known: hopeful, then right; and costs that are replaced while requests wait."""

from __future__ import annotations

import pytest

from server.core.costs import HAND_OFF_S, Unmeasured
from server.core.device import Device
from server.core.events import Answer, InstanceUp, Open, Recost, Refuse, Run, StepDone, Submit
from server.core.lane import TRY, Lane
from server.core.learning import Learning
from server.core.scheduler import Scheduler
from server.core.types import Demand, Drift, Limits, Mixing, Refusal
from tests.server.core.build import KEY, MS, costs, ids, request


def learning(max_rows: int = 8) -> Learning:
    return Learning(Unmeasured(max_rows, 0))


def opened(told: Unmeasured | None = None) -> Scheduler[str]:
    scheduler: Scheduler[str] = Scheduler()
    scheduler.handle(Open(KEY, Limits(8, 100), Mixing.ANY, told or Unmeasured(8, 0)), 0.0)
    scheduler.handle(InstanceUp(KEY), 0.0)
    return scheduler


def test_at_first_nothing_takes_any_time() -> None:
    forecast = learning()
    assert forecast.takes_s(8, 0) == forecast.at_most_s(8, 0) == forecast.at_best_s(1, 0) == HAND_OFF_S
    assert forecast.full(0) == forecast.knee(0) == 8
    assert repr(forecast) == "<learning, <0 + rows·(0 + 0 length + 0 length²), from 0 batches>>"


def test_it_knows_the_law_after_few_batches_and_corrects_it_in_between() -> None:
    forecast = learning()
    for rows in (1, 8, 4):
        forecast.learn(rows, 0, (4 + rows) * MS)
    assert forecast.takes_s(2, 0) == pytest.approx(6 * MS, rel=0.02)
    forecast.learn(4, 0, 16 * MS)
    assert forecast.ratio > 1.5, "the fourth does not change the law, so it corrects it"
    forecast.learn(4, 0, HAND_OFF_S / 2)
    assert forecast.takes_s(1, 0) > 0


def test_there_is_no_drift_from_what_was_learnt() -> None:
    forecast = learning()
    for n in range(300):
        forecast.learn(1, 0, (5 if n < 100 else 50) * MS)
    assert forecast.drift is Drift.NONE


def test_nobody_is_refused_before_anything_is_known() -> None:
    scheduler = opened()
    requests = tuple(request(number, deadline_ms=20.0) for number in range(60))
    (run,) = scheduler.handle(Submit(KEY, requests), 0.0)
    assert isinstance(run, Run)
    assert run.batch.rows == 8, "eager: all that there is room for"
    late = tuple(request(number, deadline_ms=20.0) for number in range(60, 80))
    assert scheduler.handle(Submit(KEY, late), 0.019) == [], "not even now"


def test_then_by_what_ran() -> None:
    scheduler = opened()
    requests = tuple(request(number, deadline_ms=20.0) for number in range(60))
    (run,) = scheduler.handle(Submit(KEY, requests), 0.0)
    assert isinstance(run, Run)
    actions = scheduler.handle(StepDone(run.batch), 0.012)
    assert sum(isinstance(action, Run) for action in actions) == 1
    (refused,) = scheduler.handle(Submit(KEY, (request(90, deadline_ms=30.0, arrived_ms=12.0),)), 0.012)
    assert isinstance(refused, Refuse), "52 rows wait, at 12 ms for 8"
    assert refused.why is Refusal.DEADLINE


def test_what_seems_hopeless_is_tried_for_a_part_of_its_time() -> None:
    """Otherwise a bad moment would lock everybody out: nothing would run, so nothing would be learnt."""
    lane: Lane[str] = Lane(KEY, Limits(8, 100), Mixing.ANY, Unmeasured(8, 0), Device())
    lane.forecast.learn(1, 0, 1.0)
    hopeless = request(1, deadline_ms=20.0)
    assert lane.latest_start(hopeless) == pytest.approx(TRY * 20 * MS)
    assert lane.latest_start(Demand(1, 0, 0.02)) == pytest.approx(0.02 - 1.0), "who is not there yet comes later"
    lane.add_instance(0.0)
    assert lane.why_not(hopeless, 0.0) is None
    lane.recost(Limits(8, 100), costs(beta_ms=100))
    assert lane.latest_start(hopeless) == pytest.approx(TRY * 20 * MS), "the bad moment may have been that of measuring"
    lane.recost(Limits(8, 100), costs())
    assert lane.latest_start(hopeless) == pytest.approx(15 * MS)


def test_costs_that_are_replaced_count_for_those_who_wait() -> None:
    scheduler = opened()
    running, *waiting = [request(number, deadline_ms=100.0) for number in range(7)]
    (run,) = scheduler.handle(Submit(KEY, (running,)), 0.0)
    assert isinstance(run, Run)
    scheduler.handle(Submit(KEY, tuple(waiting)), 0.0)
    lane = scheduler.lane(KEY)
    assert lane.waiting.work_s == pytest.approx(6 * HAND_OFF_S / 8)
    assert scheduler.handle(Recost(KEY, Limits(8, 10), costs()), 0.001) == []
    assert (isinstance(lane.forecast, Learning), lane.limits.queue_rows) == (False, 10)
    assert lane.waiting.work_s == pytest.approx(6 * 12 / 8 * MS)
    late = tuple(request(number, deadline_ms=200.0) for number in range(7, 12))
    assert [action.why for action in scheduler.handle(Submit(KEY, late), 0.001) if isinstance(action, Refuse)] == [
        Refusal.QUEUE_FULL
    ]
    next_run, answer = scheduler.handle(StepDone(run.batch), 0.005)
    assert isinstance(next_run, Run)
    assert isinstance(answer, Answer)
    assert ids(next_run.batch.requests) == [1, 2, 3, 4, 5, 6, 7, 8]


def test_batches_do_not_become_smaller_while_requests_wait() -> None:
    scheduler = opened()
    with pytest.raises(AssertionError, match="batches of that many rows"):
        scheduler.handle(Recost(KEY, Limits(4, 10), costs(max_rows=4)), 0.0)
