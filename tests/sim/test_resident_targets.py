"""What continuous batching must reach, in virtual time: requests that stay for many steps, beside static batching. Exact by seed.

The law is that of a model of 32 M parameters with 16 slots on two cores: a step of 16 takes 9 ms, a prompt of 32 tokens 9 ms.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest

from server.core.costs import LinearSteps
from server.core.events import Action, Cancel, Event, Iterate, Release
from server.core.scheduler import Scheduler
from server.core.types import GenerateRequest, ModelKey, ResidentLimits
from server.simulation.baselines import generate_static
from server.simulation.clients import MODEL, Request, ask, ask_for_tokens, geometric, merged, poisson_times
from server.simulation.laws import linear_costs, steady
from server.simulation.station import Served, ServedTokens, serve
from server.simulation.tally import Tally
from tests.sim.watched import watched

NOISE = 0.02
SLOTS = 16
GAP_S = 0.025
STEPS = LinearSteps(0.001, 0.0004, 5e-7, 0.001, 0.00024, guard=1.05)
LIMITS = ResidentLimits(SLOTS, SLOTS * 1024, 1024, 4096, 10**6, GAP_S)
PEAK = 25.0  # requests per second that 16 slots serve under any overload, see test_the_peak_is_what_a_backlog_gets
SEEDS = (1, 2)


def conversation(rate: float, n_requests: int, first_s: float, seed: int, priority: int = 0) -> list[GenerateRequest[int]]:
    """Prompts of 32 tokens, answers of 64 on average and 256 at most."""
    rnd = random.Random(seed)
    return ask_for_tokens(poisson_times(rate, n_requests, rnd), rnd, first_s, 32, geometric(64, 256), 256, priority=priority)


def played(requests: list[GenerateRequest[int]], limits: ResidentLimits = LIMITS, seed: int = 1) -> Tally:
    return serve(requests, ServedTokens(STEPS, limits, truth=steady(NOISE, random.Random(seed))))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("slots", "n_requests", "times"), [(8, 3200, 2.7), (32, 3840, 3.95)])
def test_iterations_beat_static_batches_by_what_theory_says(slots: int, n_requests: int, times: float, seed: int) -> None:
    """Exponential lengths, a step costs the same whoever takes part: the mean of the longest of so many, less the last ones to end."""
    rnd = random.Random(seed)
    backlog = ask_for_tokens(iter([0.0] * n_requests), rnd, 1e9, 1, geometric(48, 10**4), 10**4)
    costs = LinearSteps(0.01)
    limits = ResidentLimits(slots, 10**7, 10**5, 4096, 10**6, 1.0)
    ours, static = serve(backlog, ServedTokens(costs, limits)).streams, generate_static(backlog, costs, slots)
    assert ours.n_tokens() == static.n_tokens()
    assert ours.rate() / static.rate() == pytest.approx(times, rel=0.02)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_backlog_comes_near_the_ceiling_of_rows_and_steps(seed: int) -> None:
    """96 prompts at once: the ceiling is 16 times the longest of each static batch ÷ the tokens."""
    rnd = random.Random(seed)
    backlog = ask_for_tokens(iter([0.0] * 96), rnd, 1e9, 32, geometric(64, 256), 256)
    ours, static = serve(backlog, ServedTokens(STEPS, LIMITS)).streams, generate_static(backlog, STEPS, SLOTS)
    n_static = sum(SLOTS * max(one.payload for one in backlog[start : start + SLOTS]) for start in range(0, 96, SLOTS))
    ceiling = n_static / sum(one.payload for one in backlog)
    assert ceiling == pytest.approx(3.0, abs=0.25)
    assert 0.85 * ceiling <= ours.rate() / static.rate() <= ceiling
    assert ours.worst_gap(1.0) <= GAP_S


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("rate", "busy", "times"), [(4.5, 0.40, 4), (9.0, 0.66, 15)])
def test_the_first_token_does_not_wait_for_a_batch_to_end(rate: float, busy: float, times: float, seed: int) -> None:
    requests = conversation(rate, 400, 30.0, seed)
    model = ServedTokens(STEPS, LIMITS)
    ours, static = serve(requests, model).streams, generate_static(requests, STEPS, SLOTS)
    assert sum(model.takes_s(step, 0.0) for step in ours.steps) / ours.now == pytest.approx(busy, abs=0.06)
    assert static.now == pytest.approx(ours.now, rel=0.06), "both keep up"
    assert static.first_token(0.95) >= times * ours.first_token(0.95)
    assert ours.first_token(0.95) <= GAP_S, "the step that runs, and a prompt"


@pytest.mark.parametrize(
    ("gap_s", "first_s", "chunks"), [(0.028, 0.125, [64, 64, 64, 64, 44]), (0.05, 0.11, [128, 128, 44]), (0.1, 0.09, [300])]
)
def test_a_long_prompt_is_cut_so_that_the_others_keep_their_gap(gap_s: float, first_s: float, chunks: list[int]) -> None:
    decoding = [GenerateRequest(number, MODEL, 1, 32, 0.0, 10.0, 200, new_tokens=256) for number in range(15)]
    arrival = GenerateRequest(15, MODEL, 1, 300, 1.0, 11.0, 20, new_tokens=64)
    streams = watched([*decoding, arrival], ServedTokens(STEPS, LIMITS._replace(gap_s=gap_s))).streams
    assert [chunk.stop - chunk.start for step in streams.steps for chunk in step.chunks if chunk.request is arrival] == chunks
    assert streams.worst_gap(1.0) <= gap_s
    assert streams.of[15].first_s <= first_s


def test_without_that_budget_the_others_wait_for_the_whole_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.core.resident_lane.ResidentLane._most_s", lambda self, place, now: float("inf"))
    decoding = [GenerateRequest(number, MODEL, 1, 32, 0.0, 10.0, 200, new_tokens=256) for number in range(15)]
    arrival = GenerateRequest(15, MODEL, 1, 300, 1.0, 11.0, 20, new_tokens=64)
    streams = serve([*decoding, arrival], ServedTokens(STEPS, LIMITS)).streams
    assert streams.worst_gap(1.0) >= 3 * GAP_S


def test_the_peak_is_what_a_backlog_gets() -> None:
    tally = played(conversation(1e5, 1500, 1e6, 1))
    assert len(tally.streams.of) / tally.streams.now == pytest.approx(PEAK, rel=0.05)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("first_s", [0.2, 1.0])
@pytest.mark.parametrize("load", [1.5, 2.0, 4.0])
def test_overload_costs_the_surplus_and_nothing_else(load: float, first_s: float, seed: int) -> None:
    """Who is accepted keeps both objectives; what is kept is the peak."""
    requests = conversation(load * PEAK, 1500, first_s, seed)
    tally = played(requests)
    assert tally.streams.kept_share(GAP_S) >= 0.99
    assert tally.streams.goodput(GAP_S, 2.0, requests[-1].arrived_at) >= 0.95 * PEAK


def test_at_half_the_peak_nobody_is_refused() -> None:
    tally = played(conversation(0.5 * PEAK, 800, 0.2, 1))
    assert tally.refused == []
    assert tally.streams.kept_share(GAP_S) == 1.0


@pytest.mark.parametrize("factor", [0.5, 1.5])
def test_a_wrong_profile_is_corrected(factor: float) -> None:
    told = LinearSteps(*[factor * cost_s for cost_s in (STEPS.step_s, STEPS.row_s, STEPS.kept_s, STEPS.chunk_s, STEPS.token_s)])
    requests = conversation(2 * PEAK, 1500, 0.5, 1)
    truth = steady(NOISE, random.Random(1))
    streams = watched(requests, ServedTokens(told, LIMITS, real=STEPS, truth=truth)).streams
    assert streams.goodput(GAP_S, 2.0, requests[-1].arrived_at) >= 0.95 * PEAK
    assert streams.kept_share(GAP_S) >= 0.95, "but those before it was corrected"


@pytest.mark.parametrize("seed", SEEDS)
def test_mixed_prompts_under_overload(seed: int) -> None:
    rnd = random.Random(seed)
    times = poisson_times(24.0, 600, rnd)
    requests = ask_for_tokens(times, rnd, 1.0, lambda rnd: rnd.choice((20, 50, 120, 300, 700)), geometric(64, 256), 256)
    tally = played(requests, LIMITS._replace(gap_s=0.03))
    assert tally.streams.kept_share(0.03) >= 0.98
    assert tally.streams.goodput(0.03, 2.0, requests[-1].arrived_at) >= 9.0


def test_room_for_half_the_slots_is_used_up_and_not_exceeded() -> None:
    requests = conversation(2 * PEAK, 1000, 0.5, 1)
    tally = watched(requests, ServedTokens(STEPS, LIMITS._replace(room=8 * (32 + 256))))
    later = tally.streams.steps[200:-200]
    assert max(len(step.decode) for step in later) == 8
    assert sum(len(step.decode) for step in later) / len(later) >= 7.5
    assert tally.streams.kept_share(GAP_S) == 1.0


def test_two_instances_share_one_queue() -> None:
    requests = conversation(1.9 * PEAK, 1500, 0.5, 1)
    tally = watched(requests, ServedTokens(STEPS, LIMITS, instances=2, truth=steady(NOISE, random.Random(1))))
    assert len(tally.streams.of) >= 0.97 * len(requests)
    assert tally.streams.kept_share(GAP_S) >= 0.995


@pytest.mark.parametrize("seed", SEEDS)
def test_a_low_priority_keeps_its_floor_under_overload(seed: int) -> None:
    urgent = conversation(1.6 * PEAK, 1600, 0.5, seed)
    rest = conversation(0.4 * PEAK, 400, 3.0, seed + 10, priority=1)
    streams = played(merged(urgent, rest), seed=seed).streams  # type: ignore[arg-type]
    until = urgent[-1].arrived_at
    low = streams.goodput(GAP_S, 2.0, until, lambda one: one.request.priority == 1)
    assert 0.08 <= low / streams.goodput(GAP_S, 2.0, until) <= 0.14
    assert streams.kept_share(GAP_S) >= 0.99


ENCODER = ModelKey("encoder", 1)
ENCODER_COSTS = linear_costs(0.0005, 0.003, 32, noise=NOISE)
ENCODER_PEAK = 32 / ENCODER_COSTS.batch_s(32, 0)


def beside(encoder_load: float, decoder_load: float, duration_s: float, seed: int) -> Tally:
    """A model with an SLO of 50 ms beside one that promises a token every 50 ms; loads as shares of what each could do alone."""
    rnd = random.Random(seed)
    rate = encoder_load * ENCODER_PEAK
    one_shot: list[Request] = ask(poisson_times(rate, int(duration_s * rate), rnd), rnd, 0.05, ENCODER)
    talk: Iterable[Request] = conversation(decoder_load * PEAK, int(duration_s * decoder_load * PEAK), 0.5, seed)
    truth = steady(NOISE, rnd)
    return serve(
        merged(one_shot, list(talk)),
        Served(ENCODER_COSTS, ENCODER, truth=truth, device="shared"),
        ServedTokens(STEPS, LIMITS._replace(gap_s=0.05), truth=truth, device="shared"),
    )


def is_one_shot(request: Request) -> bool:
    return request.model == ENCODER


@pytest.mark.parametrize("seed", SEEDS)
def test_beside_a_model_of_one_step_both_keep_their_promises(seed: int) -> None:
    tally = beside(0.4, 0.3, 10.0, seed)
    assert tally.in_time_share(is_one_shot) >= 0.99
    assert tally.streams.kept_share(0.05) >= 0.99
    assert sum(not is_one_shot(request) for request in tally.refused) <= 2


@pytest.mark.parametrize("seed", SEEDS)
def test_at_nine_tenths_of_what_each_could_do_alone_hardly_anybody_is_turned_away(seed: int) -> None:
    """Refused ones count as missed. What a decoder has to do grows less than its share: more rows go into each of its steps."""
    tally = beside(0.45, 0.45, 10.0, seed)
    n_talks = len(tally.streams.of) + sum(not is_one_shot(request) for request in tally.refused)
    assert tally.in_time_share(is_one_shot) >= 0.95
    assert tally.streams.kept_share(0.05) * len(tally.streams.of) / n_talks >= 0.80


def test_beside_it_overload_breaks_no_promise() -> None:
    tally = beside(2.0, 2.0, 5.0, 1)
    assert tally.n_late() <= 0.01 * len(tally.answered)
    assert tally.streams.kept_share(0.05) >= 0.97
    assert tally.goodput() >= 0.4 * ENCODER_PEAK
    assert tally.streams.rate() >= 500


def test_a_cancelled_resident_frees_its_slot_for_the_next_step() -> None:
    limits = LIMITS._replace(slots=2)
    seen: list[tuple[Event[int], list[Action[int]]]] = []
    residents = [GenerateRequest(number, MODEL, 1, 32, 0.0, 10.0, 200, new_tokens=256) for number in range(2)]
    waits = GenerateRequest(2, MODEL, 1, 32, 0.1, 10.0, 20, new_tokens=64)

    def see(played: Scheduler[int], event: Event[int], actions: list[Action[int]], now: float) -> None:
        seen.append((event, actions))
        if waits.id in [one.id for one in getattr(event, "requests", ())]:
            assert played.handle(Cancel(residents[0]), now) == [], "its step still runs"

    serve([*residents, waits], ServedTokens(STEPS, limits), see=see)
    place = next(number for number, (event, _) in enumerate(seen) if waits in getattr(event, "requests", ()))
    _, actions = seen[place + 1]
    assert [type(action) for action in actions][:2] == [Release, Iterate]
    assert actions[0].requests == (residents[0],)  # type: ignore[union-attr]
    step = actions[1].iteration  # type: ignore[union-attr]
    assert [chunk.request for chunk in step.chunks] == [waits]
    assert step.decode == (residents[1],)
