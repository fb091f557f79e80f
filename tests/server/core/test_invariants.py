"""The onlooker itself: each law, broken on purpose, is reported in words."""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import pytest

from server.core.events import (
    Action,
    Answer,
    Cancel,
    Closed,
    Drain,
    Event,
    Fail,
    InstanceLost,
    InstanceUp,
    Open,
    Refuse,
    Run,
    StepDone,
    StepFailed,
    Submit,
    Wake,
)  # fmt: skip
from server.core.forecast import Forecast
from server.core.invariants import BrokenLaw, Onlooker, Outcome
from server.core.types import Batch, Close, Failure, Limits, Mixing, ModelKey, Refusal
from tests.server.core.build import KEY, Request, batch, costs, request

OTHER = ModelKey("n", 1)


class FakeLane:
    def __init__(self) -> None:
        self.forecast = Forecast(costs())
        self.tries_hopeless = False


class FakeScheduler:
    """Only what the onlooker asks of a scheduler."""

    wakeup: float | None = None

    def next_wakeup(self) -> float | None:
        return self.wakeup

    def lane(self, _: ModelKey) -> FakeLane:
        return FakeLane()


class Scene:
    """An onlooker that has seen a model with one instance open."""

    def __init__(self, mixing: Mixing = Mixing.ANY, lengths: tuple[int, ...] = (0,), ahead: int = 0) -> None:
        self.scheduler = FakeScheduler()
        self.onlooker: Onlooker[str] = Onlooker(cast(Any, self.scheduler))
        self.see(Open(KEY, Limits(4, 100, ahead), mixing, costs(lengths=lengths)))
        self.see(InstanceUp(KEY))

    def see(self, event: Event[str], *actions: Action[str], now: float = 0.0) -> None:
        self.onlooker.see(event, list(actions), now)

    def submitted(self, *requests: Request) -> Scene:
        """They wait while the instance is busy with request 0."""
        busy = request(0)
        self.see(Submit(KEY, (busy,)), Run(batch(busy)))
        self.see(Submit(KEY, requests))
        return self

    @property
    def first(self) -> Batch[str]:
        return self.onlooker.batches[0]

    def done(self, *actions: Action[str]) -> None:
        self.see(StepDone(self.first), *actions, Answer(self.first, self.first.requests))


def run(*requests: Request, **changes: Any) -> Run[str]:
    return Run(dataclasses.replace(batch(*requests), **changes))


A, B, C = request(1, 100), request(2, 200), request(3, 300)
LATE = request(1, 4)


def test_a_lawful_life() -> None:
    scene = Scene().submitted(A, B, C, request(4))
    both = batch(A, B)
    scene.done(Run(both))
    scene.see(StepFailed(both, "boom"), run(A, close=Close.ALONE))
    scene.see(Cancel(C))
    scene.see(Cancel(C))
    scene.see(Wake())
    scene.see(InstanceLost(KEY, scene.onlooker.batches[-1], "gone"), Fail(A, Failure.INSTANCE_LOST, "gone"))
    scene.see(Drain(KEY), *(Refuse(r, Refusal.DEADLINE, None) for r in (B, scene.onlooker.submitted[4])), Closed(KEY))
    scene.see(Submit(KEY, (request(9),)), Refuse(request(9), Refusal.DRAINING, None))
    outcomes = {number: outcome.value for number, outcome in scene.onlooker.outcomes.items()}
    assert outcomes == {0: "answered", 1: "failed", 2: "refused", 3: "cancelled", 4: "refused", 9: "refused"}
    scene.onlooker.end()


def test_a_request_that_fails_alone() -> None:
    scene = Scene()
    scene.see(Submit(KEY, (A,)), run(A))
    scene.see(StepFailed(scene.first, "boom"), Fail(A, Failure.MODEL, "boom"))
    scene.onlooker.end()


def test_law_1_a_request_without_outcome() -> None:
    scene = Scene().submitted(A)
    with pytest.raises(BrokenLaw, match="law 1: 2 requests have no outcome, the first is <#0 "):
        scene.onlooker.end()


def test_law_1_a_drain_without_end() -> None:
    scene = Scene()
    scene.see(Drain(KEY))
    with pytest.raises(BrokenLaw, match="law 1: m/1 drains for ever"):
        scene.onlooker.end()


def test_law_1_two_outcomes() -> None:
    scene = Scene().submitted(A)
    scene.see(Wake(), Refuse(A, Refusal.DEADLINE, None))
    with pytest.raises(BrokenLaw, match=r"law 1: <#1 .* is failed but was refused"):
        scene.see(Wake(), Fail(A, Failure.MODEL, "boom"))


def test_law_1_the_answer_of_another_batch() -> None:
    scene = Scene().submitted(A)
    with pytest.raises(BrokenLaw, match=r"law 1: <#1 .* is answered with the results of <batch 1: "):
        scene.see(StepDone(scene.first), run(A), Answer(scene.first, (A,)))


def test_law_1_closed_with_work_left() -> None:
    scene = Scene().submitted(A)
    with pytest.raises(BrokenLaw, match="law 1: m/1 closed with work left"):
        scene.see(Drain(KEY), Closed(KEY))


def test_law_1_a_batch_of_who_does_not_wait() -> None:
    scene = Scene().submitted(A)
    with pytest.raises(BrokenLaw, match=r"law 1: <#2 .* is in <batch .* but does not wait"):
        scene.done(run(A, B))


def test_law_1_a_suspect_in_company() -> None:
    scene = Scene()
    both = batch(A, B)
    scene.see(Submit(KEY, (A, B)), Run(both))
    with pytest.raises(BrokenLaw, match=r"law 1: .* which must run alone"):
        scene.see(StepFailed(both, "boom"), Run(batch(A, B)))


def test_law_2_a_wakeup_that_changes_nothing() -> None:
    scene = Scene().submitted(A)
    scene.scheduler.wakeup = 0.095
    with pytest.raises(BrokenLaw, match=r"law 2: woken at 0.095, wants to be woken at 0.095 again"):
        scene.see(Wake(), now=0.095)


def test_law_3_overtaking() -> None:
    with pytest.raises(BrokenLaw, match=r"law 3: <batch .* passes over the more urgent <#1 "):
        Scene().submitted(A, B).done(run(B))
    with pytest.raises(BrokenLaw, match=r"law 3: <batch .* is not the most urgent that wait, which are \[<#1 .*, <#2 "):
        Scene().submitted(A, B, C).done(run(A, C))


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (run(A, B, rows=3), "law 4: <batch .* exceeds 4 rows or miscounts them"),
        (run(A, B, C, request(4), request(5)), "law 4: <batch .* exceeds 4 rows or miscounts them"),
    ],
)
def test_law_4_limits(action: Run[str], message: str) -> None:
    with pytest.raises(BrokenLaw, match=message):
        Scene().submitted(A, B, C).done(action)


def test_law_4_more_batches_than_instances() -> None:
    with pytest.raises(BrokenLaw, match=r"law 4: .* is one too many for 1 instances"):
        Scene().submitted(A, B).done(run(A, id=2), run(B, id=3))
    lost = Scene(ahead=1)
    lost.see(InstanceLost(KEY, None, "gone"))
    with pytest.raises(BrokenLaw, match=r"law 4: .* is one too many for 0 instances"):
        lost.see(Submit(KEY, (A,)), run(A))


def test_law_4_a_batch_formed_ahead_that_could_still_gain() -> None:
    scene = Scene(ahead=1).submitted(A, B, C)
    scene.see(Wake(), run(A, close=Close.FULL, id=2))
    with pytest.raises(BrokenLaw, match=r"law 4: .* is one too many for 1 instances"):
        scene.see(Wake(), run(B, close=Close.FULL, id=3))
    with pytest.raises(BrokenLaw, match=r"law 4: .* is formed ahead, but could still gain"):
        Scene(ahead=1).submitted(A).see(Wake(), run(A, id=2))


def test_law_4_lengths_that_must_not_mix() -> None:
    requests = request(1, 100, length=2), request(2, 200, length=3)
    scene = Scene(Mixing.EQUAL, lengths=(1, 8))
    with pytest.raises(BrokenLaw, match=r"law 4: <batch .* mixes lengths that must not be padded"):
        scene.see(Submit(KEY, requests), run(*requests))


def test_law_4_a_late_start() -> None:
    with pytest.raises(BrokenLaw, match=r"law 4: <batch .* starts at 0.0 but is predicted to end 0.001\d* s late"):
        Scene().submitted(LATE).done(run(LATE))


def test_an_idle_instance_while_somebody_waits() -> None:
    with pytest.raises(BrokenLaw, match="an instance of m/1 is idle while 1 requests wait"):
        Scene().submitted(A).done()


def test_padded_batches_may_leave_gaps_in_the_order() -> None:
    requests = [request(number, 100 + number, length=number) for number in (1, 2, 3)]
    scene = Scene(Mixing.PADDED, lengths=(1, 8))
    scene.submitted(*requests)
    scene.done(run(requests[0], requests[2]))
    assert len(scene.onlooker.batches) == 2


def test_requests_of_models_that_are_not_open_are_watched_too() -> None:
    scene = Scene()
    stray = request(1, model=OTHER)
    scene.see(Submit(OTHER, (stray,)), Refuse(stray, Refusal.DRAINING, None))
    assert scene.onlooker.outcomes == {1: Outcome.REFUSED}
