"""The onlooker of generating models: each law, broken on purpose, is reported in words."""

from __future__ import annotations

from typing import Any, cast

import pytest

from server.core.device import Device
from server.core.events import (
    Action,
    Cancel,
    Closed,
    Drain,
    Emit,
    Event,
    InstanceLost,
    InstanceUp,
    Iterate,
    IterationDone,
    IterationFailed,
    Open,
    OpenResident,
    Release,
    Run,
    Submit,
)  # fmt: skip
from server.core.forecast import Forecast
from server.core.invariants import BrokenLaw, Onlooker, Outcome
from server.core.resident_lane import ResidentLane
from server.core.types import Chunk, GenerateRequest, Iteration, Limits, Mixing, ModelKey, ResidentLimits
from tests.server.core.build import KEY, LIMITS, STEPS, batch, costs, prompt, request

OTHER = ModelKey("n", 1)


class FakeLane:
    forecast = Forecast(costs())


class FakeScheduler:
    """Only what the onlooker asks of a scheduler."""

    def next_wakeup(self) -> None:
        return None

    def lane(self, _: ModelKey) -> FakeLane:
        return FakeLane()

    def resident_lane(self, _: ModelKey) -> ResidentLane[str]:
        return ResidentLane(KEY, LIMITS, STEPS, Device())


class Scene:
    """An onlooker that has seen a model with one instance open."""

    def __init__(self, limits: ResidentLimits = LIMITS, device: str | None = None) -> None:
        self.onlooker: Onlooker[str] = Onlooker(cast(Any, FakeScheduler()))
        self.n_steps = 0
        self.see(OpenResident(KEY, limits, STEPS, device))
        self.see(InstanceUp(KEY, 0))

    def see(self, event: Event[str], *actions: Action[str]) -> None:
        self.onlooker.see(event, list(actions), 0.0)

    def step(self, *members: GenerateRequest[str] | Chunk[str], context: int = 0) -> Iteration[str]:
        decode = tuple(one for one in members if isinstance(one, GenerateRequest))
        chunks = tuple(one for one in members if isinstance(one, Chunk))
        self.n_steps += 1
        return Iteration(self.n_steps, KEY, 0, decode, chunks, context, 0.0)

    def begun(self, *requests: GenerateRequest[str]) -> Iteration[str]:
        """A first step with whole prompts."""
        first = self.step(*[whole(one) for one in requests])
        self.see(Submit(KEY, requests), Iterate(first))
        return first


def whole(one: GenerateRequest[str]) -> Chunk[str]:
    return Chunk(one, 0, one.length)


def test_a_life_without_offence() -> None:
    scene, one, two = Scene(), prompt(1), prompt(2)
    first = scene.begun(one, two)
    second = scene.step(one, two, context=22)
    scene.see(IterationDone(first, ()), Iterate(second), Emit(first, (one, two), ()))
    scene.see(Cancel(two))
    scene.see(Drain(KEY))
    scene.see(IterationDone(second, (one,)), Release(KEY, 0, (one, two)), Emit(second, (one,), (one,)), Closed(KEY))
    scene.onlooker.end()
    assert scene.onlooker.outcomes == {1: Outcome.ANSWERED, 2: Outcome.CANCELLED}
    assert scene.onlooker.iterations == [first, second]


def test_law_1_tokens_go_to_those_who_got_and_want_them() -> None:
    scene, one, two = Scene(), prompt(1), prompt(2)
    first = scene.begun(one, two)
    scene.see(Cancel(two))
    with pytest.raises(BrokenLaw, match=r"law 1: the tokens .* go to \[1, 2\], not to \[1\]"):
        scene.see(IterationDone(first, ()), Release(KEY, 0, (two,)), Emit(first, (one, two), ()))


def test_law_1_a_failed_step_has_no_tokens() -> None:
    scene, one = Scene(), prompt(1)
    first = scene.begun(one)
    with pytest.raises(BrokenLaw, match=r"law 1: the tokens"):
        scene.see(IterationFailed(first, "boom"), Emit(first, (one,), ()))


def test_law_1_after_a_failed_step_each_runs_alone() -> None:
    scene, one, two = Scene(), prompt(1), prompt(2)
    first = scene.begun(one, two)
    with pytest.raises(BrokenLaw, match=r"law 1: .* alone"):
        scene.see(IterationFailed(first, "boom"), Iterate(scene.step(whole(one), whole(two))))


def test_law_1_only_those_who_wait_or_are_resident_have_chunks() -> None:
    scene, one = Scene(), prompt(1)
    with pytest.raises(BrokenLaw, match=r"law 1: <#9 .* neither waits nor is resident"):
        scene.see(Submit(KEY, (one,)), Iterate(scene.step(whole(one), whole(prompt(9)))))


def test_law_1_no_model_closes_while_somebody_is_resident() -> None:
    scene, one = Scene(), prompt(1)
    first = scene.begun(one)
    with pytest.raises(BrokenLaw, match="closed with work left"):
        scene.see(IterationDone(first, ()), Emit(first, (one,), ()), Closed(KEY))


def test_law_5_all_decode() -> None:
    scene, one, two = Scene(), prompt(1), prompt(2)
    first = scene.begun(one, two)
    with pytest.raises(BrokenLaw, match=r"law 5: .* does not decode all of \[1, 2\]"):
        scene.see(IterationDone(first, ()), Iterate(scene.step(one, context=11)), Emit(first, (one, two), ()))


def test_law_5_nobody_goes_on_after_a_failed_step() -> None:
    scene, one, two = Scene(), prompt(1), prompt(2)
    first = scene.begun(one, two)
    with pytest.raises(BrokenLaw, match=r"law 5: .* may go on"):
        scene.see(IterationFailed(first, "boom"), Iterate(scene.step(whole(one)), may_go_on=True))


def test_law_5_nobody_goes_on_where_a_neighbour_waits() -> None:
    scene = Scene(device="d")
    scene.see(Open(OTHER, Limits(4, 100), Mixing.ANY, costs(), "d"))
    waits, one = request(9, model=OTHER), prompt(1)
    first = scene.begun(one)
    scene.see(Submit(OTHER, (waits,)))
    with pytest.raises(BrokenLaw, match=r"law 5: .* may go on"):
        scene.see(IterationDone(first, ()), Iterate(scene.step(one, context=11), may_go_on=True), Emit(first, (one,), ()))


def test_law_5_a_step_does_something() -> None:
    scene = Scene()
    with pytest.raises(BrokenLaw, match=r"law 5: .* does nothing"):
        scene.see(Submit(KEY, (prompt(1),)), Iterate(scene.step()))


@pytest.mark.parametrize("chunk", [(64, 100), (0, 0), (0, 101)])
def test_law_5_prompts_go_on_where_they_stopped(chunk: tuple[int, int]) -> None:
    scene, one = Scene(), prompt(1, length=100)
    with pytest.raises(BrokenLaw, match=r"law 5: .* does not go on"):
        scene.see(Submit(KEY, (one,)), Iterate(scene.step(Chunk(one, *chunk))))


def test_law_5_chunks_are_cut_at_multiples() -> None:
    scene, one = Scene(), prompt(1, length=100)
    with pytest.raises(BrokenLaw, match=r"law 5: .* not cut at a multiple of 64"):
        scene.see(Submit(KEY, (one,)), Iterate(scene.step(Chunk(one, 0, 70))))


def test_law_6_one_step_at_a_time() -> None:
    scene, one = Scene(), prompt(1)
    scene.begun(one)
    with pytest.raises(BrokenLaw, match=r"law 6: .* one too many"):
        scene.see(Submit(KEY, (prompt(2),)), Iterate(scene.step(whole(prompt(2)))))


def test_law_6_no_more_tokens_than_were_asked_for() -> None:
    scene, one = Scene(), prompt(1, new_tokens=1)
    first = scene.begun(one)
    second = scene.step(one, context=11)
    scene.see(IterationDone(first, ()), Iterate(second), Emit(first, (one,), ()))
    with pytest.raises(BrokenLaw, match=r"law 6: .* has 2 tokens"):
        scene.see(IterationDone(second, ()))


def test_law_6_the_tokens_kept_are_counted_right() -> None:
    scene, one = Scene(), prompt(1)
    first = scene.begun(one)
    with pytest.raises(BrokenLaw, match=r"law 6: .* 11 tokens kept, not 10"):
        scene.see(IterationDone(first, ()), Iterate(scene.step(one, context=10)), Emit(first, (one,), ()))


@pytest.mark.parametrize("limits", [LIMITS._replace(slots=1), LIMITS._replace(room=29), LIMITS._replace(step_tokens=19)])
def test_law_6_no_budget_is_exceeded(limits: ResidentLimits) -> None:
    with pytest.raises(BrokenLaw, match=r"law 6: .* exceed"):
        Scene(limits).begun(prompt(1), prompt(2))


def test_law_6_the_cancelled_leave_before_the_next_step() -> None:
    scene, one, two = Scene(), prompt(1), prompt(2)
    first = scene.begun(one, two)
    scene.see(Cancel(two))
    with pytest.raises(BrokenLaw, match=r"law 6: \[2\] were cancelled"):
        scene.see(IterationDone(first, ()), Iterate(scene.step(one, context=11)), Emit(first, (one,), ()))


def test_law_6_only_residents_are_released_and_not_during_their_step() -> None:
    scene, one = Scene(), prompt(1)
    scene.begun(one)
    with pytest.raises(BrokenLaw, match=r"law 6: <#2 .* is not resident"):
        scene.see(Cancel(prompt(2)), Release(KEY, 0, (prompt(2),)))
    with pytest.raises(BrokenLaw, match=r"law 6: <#1 .* while its step runs"):
        scene.see(Cancel(one), Release(KEY, 0, (one,)))


def test_law_6_who_leaves_is_released_before_the_next_step() -> None:
    scene, one, two = Scene(), prompt(1), prompt(2)
    first = scene.begun(one, two)
    second = scene.step(two, context=11)
    with pytest.raises(BrokenLaw, match=r"law 6: .* comes after the step"):
        scene.see(IterationDone(first, (one,)), Iterate(second), Release(KEY, 0, (one,)), Emit(first, (one, two), (one,)))


def test_law_7_order_of_urgency() -> None:
    scene, late, soon = Scene(), prompt(1, 900), prompt(2, 100)
    with pytest.raises(BrokenLaw, match=r"law 7: .* passes over <#2"):
        scene.see(Submit(KEY, (late, soon)), Iterate(scene.step(whole(late))))


def test_law_7_unfinished_prompts_may_go_on_while_a_newcomer_waits_for_a_slot() -> None:
    scene, first, soon = Scene(LIMITS._replace(slots=1)), prompt(1, 900, length=100), prompt(2, 100)
    begun = scene.step(Chunk(first, 0, 64))
    scene.see(Submit(KEY, (first,)), Iterate(begun))
    scene.see(Submit(KEY, (soon,)))
    scene.see(IterationDone(begun, ()), Iterate(scene.step(Chunk(first, 64, 100))))


def test_law_7_a_lower_priority_has_its_floor_only() -> None:
    scene, urgent = Scene(LIMITS._replace(slots=100, room=10**6)), prompt(1)
    scene.see(InstanceUp(KEY, 1))
    low = [prompt(number, length=64, new_tokens=200, priority=1) for number in range(2, 10)]
    with pytest.raises(BrokenLaw, match=r"law 7: .* beyond its floor"):
        scene.see(Submit(KEY, (urgent, *low)), Iterate(scene.step(*[whole(one) for one in low])))


def test_law_8_no_prompt_that_breaks_the_gap() -> None:
    """20 ms: 2 for the one that decodes, 1 and 0.1 ms a token for the chunk."""
    scene, one, two = Scene(), prompt(1), prompt(2, length=192)
    first = scene.begun(one)
    scene.see(Submit(KEY, (two,)))
    with pytest.raises(BrokenLaw, match=r"law 8: .* takes 0.022"):
        scene.see(IterationDone(first, ()), Iterate(scene.step(one, whole(two), context=11)), Emit(first, (one,), ()))


def test_an_idle_instance_is_a_bug_while_somebody_waits_or_is_resident() -> None:
    with pytest.raises(BrokenLaw, match="idle while 1 requests wait or"):
        Scene().see(Submit(KEY, (prompt(1),)))
    scene, one = Scene(), prompt(1)
    first = scene.begun(one)
    with pytest.raises(BrokenLaw, match="idle while 0 requests wait or"):
        scene.see(IterationDone(first, ()), Emit(first, (one,), ()))


def test_law_4_two_models_never_run_on_one_device() -> None:
    scene = Scene(device="d")
    scene.see(Open(OTHER, Limits(4, 100), Mixing.ANY, costs(), "d"))
    scene.see(InstanceUp(OTHER))
    one = request(1, model=OTHER)
    scene.see(Submit(OTHER, (one,)), Run(batch(one)))
    scene.see(Submit(KEY, (prompt(2),)))
    with pytest.raises(BrokenLaw, match=r"law 4: .* does not fit on its device"):
        scene.see(Cancel(prompt(9)), Iterate(scene.step(whole(prompt(2)))))


def test_what_dies_with_its_instance_is_forgotten() -> None:
    scene, one = Scene(), prompt(1)
    scene.begun(one)
    scene.see(Cancel(one))
    scene.see(InstanceLost(KEY, None, "gone", 0))
    scene.see(Drain(KEY), Closed(KEY))
    scene.onlooker.end()
