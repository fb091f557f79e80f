"""One generating model, decision by decision, in virtual milliseconds: 1 ms and 1 ms a row to decode, 1 ms and 0.1 ms a token for a chunk;
4 slots, room for 1000 tokens, a token every 20 ms."""

from __future__ import annotations

import pytest

from server.core.costs import LinearSteps
from server.core.events import (
    Action,
    Cancel,
    Closed,
    Drain,
    Emit,
    Event,
    Fail,
    InstanceLost,
    InstanceUp,
    Iterate,
    IterationDone,
    IterationFailed,
    Open,
    OpenResident,
    Refuse,
    Release,
    Submit,
    Wake,
)  # fmt: skip
from server.core.scheduler import Scheduler
from server.core.types import GenerateRequest, Iteration, Limits, Mixing, ModelKey, ResidentLimits
from tests.server.core.build import KEY, LIMITS, MS, STEPS, costs, ids, prompt, request, resident_lane


def shown(action: Action[str]) -> str:
    match action:
        case Iterate(iteration):
            return repr(iteration)
        case Emit(_, requests, ended):
            return f"tokens for {','.join(map(str, ids(requests)))}, last for {','.join(map(str, ids(ended))) or 'none'}"
        case Release(_, instance, requests):
            return f"release {','.join(map(str, ids(requests)))} on {instance}"
        case Refuse(one, why, retry_after_s):
            return f"refuse {one.id}: {why.value}" + ("" if retry_after_s is None else f", retry {retry_after_s / MS:.1f} ms")
        case Fail(one, why, detail):
            return f"fail {one.id}: {why.value} ({detail})"
        case Closed(model):
            return f"closed {model}"
    raise AssertionError(action)


class Play:
    """A scheduler with one generating model, and the steps that it was given, by instance."""

    def __init__(
        self, limits: ResidentLimits = LIMITS, n_instances: int = 1, steps: LinearSteps = STEPS, device: str | None = None
    ) -> None:
        self.scheduler: Scheduler[str] = Scheduler()
        self.steps: dict[int, Iteration[str]] = {}
        self.may_go_on = False
        self.see(0, OpenResident(KEY, limits, steps, device))
        for number in range(n_instances):
            self.see(0, InstanceUp(KEY, number))

    def see(self, at_ms: float, event: Event[str]) -> list[str]:
        actions = self.scheduler.handle(event, at_ms * MS)
        for action in actions:
            if isinstance(action, Iterate):
                self.steps[action.iteration.instance], self.may_go_on = action.iteration, action.may_go_on
        return [shown(action) for action in actions]

    def submit(self, at_ms: float, *requests: GenerateRequest[str]) -> list[str]:
        return self.see(at_ms, Submit(KEY, requests))

    def done(self, at_ms: float, *ended: GenerateRequest[str], instance: int = 0) -> list[str]:
        return self.see(at_ms, IterationDone(self.steps[instance], ended))


def test_one_request_from_its_prompt_to_its_last_token() -> None:
    play, one = Play(), prompt(1, length=10, new_tokens=3)
    assert play.submit(0, one) == ["<step 1 on 0: decode -, prefill 1[0:10]>"]
    assert play.done(2) == ["<step 2 on 0: decode 1, prefill ->", "tokens for 1, last for none"]
    assert play.done(4) == ["<step 3 on 0: decode 1, prefill ->", "tokens for 1, last for none"]
    assert play.done(6, one) == ["release 1 on 0", "tokens for 1, last for 1"]
    assert repr(play.scheduler.resident_lane(KEY)).startswith(
        "<m/1 idle 1, [<instance 0: 0 decode, 0 prefill, 4 slots and 1000 "
    )


def test_it_must_have_ended_when_it_has_all_its_tokens() -> None:
    play = Play()
    play.submit(0, prompt(1, new_tokens=1))
    with pytest.raises(AssertionError, match="has all its tokens"):
        play.done(2)


def test_newcomers_join_at_the_next_step_beside_those_who_decode() -> None:
    play, one, two = Play(), prompt(1, new_tokens=9), prompt(2, length=30)
    play.submit(0, one)
    assert play.submit(1, two) == []
    assert play.done(2)[0] == "<step 2 on 0: decode 1, prefill 2[0:30]>"
    assert play.done(8)[0] == "<step 3 on 0: decode 1,2, prefill ->"


def test_a_long_prompt_is_cut_where_the_gap_ends() -> None:
    """20 ms: 2 for the decode of one, 1 + 6.4 for each 64 tokens in one chunk."""
    play = Play()
    play.submit(0, prompt(1, new_tokens=50))
    play.submit(1, prompt(2, length=300))
    assert play.done(2)[0] == "<step 2 on 0: decode 1, prefill 2[0:128]>"
    assert play.done(18)[0] == "<step 3 on 0: decode 1, prefill 2[128:256]>"
    assert play.done(34)[0] == "<step 4 on 0: decode 1, prefill 2[256:300]>"
    assert play.done(42) == ["<step 5 on 0: decode 1,2, prefill ->", "tokens for 1,2, last for none"]


def test_a_prompt_goes_on_behind_what_was_known_of_it() -> None:
    play, two = Play(), prompt(2, length=300)
    play.submit(0, prompt(1, new_tokens=50))
    play.submit(1, two)
    assert play.done(2)[0] == "<step 2 on 0: decode 1, prefill 2[0:128]>"
    known = play.see(18, IterationDone(play.steps[0], (), None, {2: 64}))
    assert known[0] == "<step 3 on 0: decode 1, prefill 2[192:300]>"


def test_a_prompt_of_which_enough_is_known_has_its_token_with_its_first_chunk() -> None:
    play, two = Play(), prompt(2, length=300)
    play.submit(0, prompt(1, new_tokens=50))
    play.submit(1, two)
    play.done(2)
    known = play.see(18, IterationDone(play.steps[0], (), None, {2: 192}))
    assert known == ["<step 3 on 0: decode 1,2, prefill ->", "tokens for 1,2, last for none"]
    assert play.scheduler.resident_lane(KEY).places[0].context == (10 + 2) + (300 + 1)


def test_what_was_not_calculated_is_not_learnt_to_be_fast() -> None:
    ratios = []
    for known in ({}, {1: 256}):
        play = Play()
        play.submit(0, prompt(1, length=300))
        play.see(6, IterationDone(play.steps[0], (), None, known))
        ratios.append(play.scheduler.resident_lane(KEY).forecast.prefill_ratio)
    assert ratios[0] < 1 < ratios[1]


def test_the_most_urgent_prompt_is_first_and_overtakes_one_that_is_under_way() -> None:
    play = Play()
    play.submit(0, prompt(1, new_tokens=50))
    play.submit(1, prompt(2, deadline_ms=900, length=300), prompt(3, deadline_ms=800, length=64))
    assert play.done(2)[0] == "<step 2 on 0: decode 1, prefill 3[0:64],2[0:64]>"
    play.submit(3, prompt(4, deadline_ms=100, length=128))
    assert play.done(18)[0] == "<step 3 on 0: decode 1,3, prefill 4[0:128]>"


def test_slots_are_waited_for_in_order() -> None:
    play = Play(LIMITS._replace(slots=1))
    one = prompt(1, new_tokens=2)
    play.submit(0, one)
    assert play.submit(1, prompt(2, 500), prompt(3, 400)) == []
    play.done(2)
    assert play.done(4, one)[:2] == ["release 1 on 0", "<step 3 on 0: decode -, prefill 3[0:10]>"]


def test_room_is_set_aside_and_nothing_smaller_slips_in() -> None:
    play = Play(LIMITS._replace(room=500))
    play.submit(0, prompt(1, length=10, new_tokens=200))
    play.submit(1, prompt(2, 500, length=10, new_tokens=300), prompt(3, 600, length=10, new_tokens=5))
    assert play.done(2)[0] == "<step 2 on 0: decode 1, prefill ->", "490 tokens are asked for, 290 are left"
    play.see(3, Cancel(prompt(9)))
    assert play.done(4)[0] == "<step 3 on 0: decode 1, prefill ->"


def test_nobody_joins_who_would_make_the_steps_too_long() -> None:
    """A step of 3 takes 4 ms."""
    play = Play(LIMITS._replace(gap_s=3.5 * MS))
    play.submit(0, prompt(1, new_tokens=50), prompt(2, new_tokens=50), prompt(3))
    assert [one.n_requests for one in play.steps.values()] == [2]


def test_a_chunked_prompt_joins_only_where_its_chunks_will_fit() -> None:
    """With 3 rows 4 ms are gone, and a chunk takes 7.4."""
    play = Play(LIMITS._replace(gap_s=11 * MS))
    play.submit(0, prompt(1, new_tokens=50), prompt(2, new_tokens=50))
    play.submit(1, prompt(3, length=100))
    assert play.done(4)[0] == "<step 2 on 0: decode 1,2, prefill ->"


@pytest.mark.parametrize(
    ("limits", "length", "new_tokens"),
    [(LIMITS, 400, 101), (LIMITS._replace(room=300), 200, 101), (LIMITS._replace(gap_s=1.9 * MS), 10, 5)],
)
def test_what_can_never_be_served_is_refused_for_good(limits: ResidentLimits, length: int, new_tokens: int) -> None:
    assert Play(limits).submit(0, prompt(1, length=length, new_tokens=new_tokens)) == ["refuse 1: too_long"]


def test_a_prompt_that_is_late_even_alone_is_refused_for_good() -> None:
    assert Play().submit(0, prompt(1, deadline_ms=1.9, length=10)) == ["refuse 1: deadline"]


def test_a_full_queue_says_when_to_come_again() -> None:
    play = Play(LIMITS._replace(slots=1, queue=1))
    play.submit(0, prompt(1, new_tokens=10))
    (refused,) = play.submit(1, prompt(2), prompt(3))
    assert refused.startswith("refuse 3: queue_full, retry ")


def test_the_less_urgent_do_not_fill_the_queue_for_the_others() -> None:
    play = Play(LIMITS._replace(slots=1, queue=1))
    play.submit(0, prompt(1, new_tokens=10))
    assert play.submit(1, prompt(2, priority=1)) == []
    assert play.submit(1, prompt(3)) == []
    assert [action.split(",")[0] for action in play.submit(1, prompt(4))] == ["refuse 4: queue_full"]


def test_a_first_token_that_is_predicted_late_is_refused() -> None:
    """A slot is expected to be free when about half of 400 tokens are taken, at 2 ms."""
    play = Play(LIMITS._replace(slots=1))
    play.submit(0, prompt(1, new_tokens=400))
    (refused,) = play.submit(1, prompt(2, deadline_ms=100))
    assert refused.startswith("refuse 2: deadline, retry ")
    assert play.submit(1, prompt(3, deadline_ms=900)) == []


def test_who_would_be_late_when_it_may_join_is_refused() -> None:
    """Three chunks beside one who decodes end at 2 + 3 · 16.8 ms or so."""
    play = Play()
    play.submit(0, prompt(1, new_tokens=50))
    assert play.submit(0.5, prompt(2, deadline_ms=48, length=300)) == []
    assert play.done(2)[0] == "<step 2 on 0: decode 1, prefill 2[0:128]>", "47 ms"
    play = Play()
    play.submit(0, prompt(1, new_tokens=50))
    assert play.submit(0.5, prompt(2, deadline_ms=48, length=300)) == []
    assert any(action.startswith("refuse 2: deadline") for action in play.done(4))


def test_a_wake_refuses_whose_prompt_can_not_be_in_time_any_more() -> None:
    play = Play(LIMITS._replace(slots=1))
    play.submit(0, prompt(1, new_tokens=20))
    play.submit(0, prompt(2, deadline_ms=100))
    assert play.scheduler.next_wakeup() == pytest.approx(98 * MS)
    assert play.see(98.0001, Wake())[0].startswith("refuse 2: deadline")
    assert play.scheduler.next_wakeup() is None


def test_a_cancelled_resident_leaves_before_the_next_step() -> None:
    play, one, two = Play(), prompt(1), prompt(2)
    play.submit(0, one, two)
    assert play.see(1, Cancel(one)) == play.see(1, Cancel(one)) == []
    assert play.done(3) == ["release 1 on 0", "<step 2 on 0: decode 2, prefill ->", "tokens for 2, last for none"]
    assert play.see(4, Cancel(one)) == []


def test_a_cancelled_newcomer_never_joins() -> None:
    play, one, two = Play(), prompt(1), prompt(2)
    play.submit(0, one)
    play.submit(1, two)
    assert play.see(1, Cancel(two)) == []
    assert play.done(3)[0] == "<step 2 on 0: decode 1, prefill ->"


def test_one_that_ends_while_it_is_cancelled_leaves_once_and_without_a_word() -> None:
    play, one = Play(), prompt(1, new_tokens=1)
    play.submit(0, one)
    play.see(1, Cancel(one))
    assert play.done(2, one) == ["release 1 on 0"]


def test_after_a_failed_step_each_runs_alone_and_only_the_culprit_fails() -> None:
    play, one, two, three = Play(), prompt(1), prompt(2), prompt(3, length=100)
    play.submit(0, one, two)
    play.submit(1, three)
    assert play.done(3)[0] == "<step 2 on 0: decode 1,2, prefill 3[0:100]>"
    assert play.see(20, IterationFailed(play.steps[0], "boom")) == ["<step 3 on 0: decode 1, prefill ->"]
    assert play.done(22) == ["<step 4 on 0: decode 2, prefill ->", "tokens for 1, last for none"]
    assert play.see(24, IterationFailed(play.steps[0], "boom")) == [
        "release 2 on 0",
        "<step 5 on 0: decode -, prefill 3[0:100]>",
        "fail 2: model_error (boom)",
    ]
    assert play.done(34) == ["<step 6 on 0: decode 1,3, prefill ->", "tokens for 3, last for none"]


def test_an_instance_may_go_on_unless_a_step_has_failed() -> None:
    play, one, two = Play(), prompt(1, length=10), prompt(2, length=12)
    play.submit(0, one)
    assert play.may_go_on
    play.submit(1, two)
    play.done(2)
    assert play.may_go_on
    play.see(5, IterationFailed(play.steps[0], "boom"))
    assert not play.may_go_on
    play.done(7)
    assert not play.may_go_on, "the other one has not run alone yet"
    play.done(9)
    assert play.may_go_on


def test_an_instance_may_not_go_on_where_a_neighbour_is_asked() -> None:
    play, one, neighbour = Play(device="d"), prompt(1, length=10), ModelKey("n", 1)
    play.see(0, Open(neighbour, Limits(4, 100), Mixing.ANY, costs(), "d"))
    play.see(0, InstanceUp(neighbour))
    play.submit(1, one)
    assert play.may_go_on
    play.see(2, Submit(neighbour, (request(9, model=neighbour),)))
    assert play.done(3)[0] == "<step 2 on 0: decode 1, prefill ->"
    assert not play.may_go_on


def test_a_cancelled_culprit_has_its_outcome_already() -> None:
    play, one = Play(), prompt(1)
    play.submit(0, one)
    play.see(1, Cancel(one))
    assert play.see(2, IterationFailed(play.steps[0], "boom")) == ["release 1 on 0"]


def test_an_instance_dies_with_its_residents() -> None:
    play, one, two, three = Play(n_instances=2), prompt(1), prompt(2), prompt(3)
    play.submit(0, one)
    play.submit(0, two)
    play.submit(0, three)
    assert play.done(3)[0] == "<step 3 on 0: decode 1, prefill 3[0:10]>"
    play.see(4, Cancel(three))
    assert play.see(5, InstanceLost(KEY, None, "gone", 0)) == ["fail 1: instance_lost (gone)"]
    assert play.done(5, instance=1)[0] == "<step 4 on 1: decode 2, prefill ->"
    play.see(6, InstanceUp(KEY, 2))
    assert play.submit(6, prompt(4)) == ["<step 5 on 2: decode -, prefill 4[0:10]>"]
    with pytest.raises(AssertionError, match="instance 2 of m/1 is up"):
        play.see(7, InstanceUp(KEY, 2))


def test_several_idle_instances_share_those_who_come() -> None:
    play = Play(n_instances=2)
    assert play.submit(0, *[prompt(number) for number in range(1, 4)]) == [
        "<step 1 on 0: decode -, prefill 1[0:10],2[0:10]>",
        "<step 2 on 1: decode -, prefill 3[0:10]>",
    ]


def test_without_an_instance_they_wait() -> None:
    play = Play(n_instances=0)
    assert play.submit(0, prompt(1)) == []
    assert play.see(1, InstanceUp(KEY)) == ["<step 1 on 0: decode -, prefill 1[0:10]>"]


def test_a_drain_lets_everybody_end() -> None:
    play, one, two = Play(LIMITS._replace(slots=1)), prompt(1, new_tokens=1), prompt(2, new_tokens=1)
    play.submit(0, one)
    play.submit(0, two)
    assert play.see(1, Drain(KEY)) == []
    assert play.submit(1, prompt(3)) == ["refuse 3: draining"]
    play.done(2, one)
    assert play.done(4, two) == ["release 2 on 0", "tokens for 2, last for 2", "closed m/1"]
    assert play.see(5, Cancel(two)) == []


def test_a_lower_priority_waits_until_it_is_owed_all_that_it_takes() -> None:
    """A tenth of the tokens of who goes first: after ten of 15 it is owed its own 15."""
    play = Play(LIMITS._replace(slots=1))
    play.submit(0, prompt(0, new_tokens=1))
    play.submit(0, prompt(99, priority=1), *[prompt(number) for number in range(1, 13)])
    order, now = [0], 0.0
    for _ in range(12):
        (step,) = play.steps.values()
        now += 2
        played = (step.chunks[0].request,)
        play.done(now, *played)
        order.append(play.steps[0].chunks[0].request.id)
    assert order.index(99) in (11, 12)


def test_one_that_stays_needs_a_model_where_it_can() -> None:
    lane = resident_lane()
    with pytest.raises(AssertionError, match="takes one step only"):
        lane.why_not(request(1), 0.0)
    with pytest.raises(AssertionError, match="takes one step only"):
        lane.waiting.add(request(1))
    with pytest.raises(AssertionError, match="must have room for a chunk"):
        resident_lane(LIMITS._replace(step_tokens=63))


def test_a_step_that_does_not_run_can_not_end() -> None:
    play = Play()
    play.submit(0, prompt(1))
    first = play.steps[0]
    play.done(2)
    with pytest.raises(AssertionError, match="does not run"):
        play.see(3, IterationDone(first, ()))
