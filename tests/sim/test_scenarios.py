"""What the policy is for, in virtual time: each part beside what would happen without it. The figures to reach: test_targets.py."""

from __future__ import annotations

import random

import pytest

from server.core.costs import CostTable
from server.core.invariants import BrokenLaw
from server.core.lane import Lane
from server.core.types import Close, Mixing
from server.simulation.baselines import Naive, serve_naive
from server.simulation.clients import Request, ask, either, log_normal, poisson_times
from server.simulation.laws import linear_costs, linear_profile, steady
from server.simulation.station import Served
from tests.server.core.build import ids
from tests.sim.watched import watched

SLO_S = 0.1
ROWS = 32
COSTS = linear_costs(0.001, 0.004, ROWS)  # l(b) = b + 4 ms
PEAK = ROWS / COSTS.batch_s(ROWS, 0)  # 889 rows/s
TOKENS = linear_costs(1e-5, 0.002, ROWS, lengths=(8, 16, 32, 64, 128, 256, 512))
LENGTHS = log_normal(60, 0.9, 512)


def offered(load: float, n_requests: int = 4000, slo_s: float = SLO_S) -> list[Request]:
    rnd = random.Random(1)
    return ask(poisson_times(load * PEAK, n_requests, rnd), rnd, slo_s)


def sentences(rate: float, n_requests: int, slo_s: float) -> list[Request]:
    rnd = random.Random(3)
    return ask(poisson_times(rate, n_requests, rnd), rnd, slo_s, length=LENGTHS)


def test_at_one_percent_load_nobody_waits_for_a_timer() -> None:
    tally = watched(offered(0.01, 1000), Served(COSTS))
    alone_s = COSTS.batch_s(1, 0)
    assert tally.latency(0.5) == pytest.approx(alone_s, rel=1e-9)
    assert tally.latency(0.95) == pytest.approx(alone_s, rel=1e-9), "all but those who met a busy device"
    assert {batch.close for batch in tally.batches} == {Close.IDLE}


@pytest.mark.parametrize("load", [0.9, 1.0, 1.5, 2.0, 4.0])
def test_overload_costs_the_surplus_and_nothing_else(load: float) -> None:
    tally = watched(offered(load), Served(COSTS))
    assert tally.n_late() == 0
    assert tally.goodput() / PEAK >= min(0.98 * load, 0.97)


def test_an_slo_far_below_a_full_batch_is_kept_at_a_fair_rate() -> None:
    tally = watched(offered(1.8, slo_s=0.02), Served(COSTS))
    best = 6 / COSTS.batch_s(6, 0)  # two batches of 6 take 20 ms
    assert tally.n_late() == 0
    assert tally.goodput() >= best


def test_without_giving_heads_up_overload_ends_in_small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scenario that the policy's one refusal after admission is for."""
    monkeypatch.setattr("server.core.policy.KEEP", 0.0)
    noisy = Served(COSTS, truth=steady(0.02, random.Random(1)))
    assert watched(offered(2.0, slo_s=0.2), noisy).goodput() / PEAK < 0.65


def test_sorting_by_length_beats_padding_in_order_of_arrival() -> None:
    backlog = sentences(rate=1e5, n_requests=3000, slo_s=1000.0)
    by_length, in_order = watched(backlog, Served(TOKENS, mixing=Mixing.PADDED)), serve_naive(backlog, TOKENS, Naive(16))
    assert len(by_length.answered) == len(in_order.answered) == 3000
    assert by_length.rate() >= 2.5 * in_order.rate()


def test_mixed_lengths_under_overload_are_answered_in_time() -> None:
    rate = serve_naive(sentences(1e5, 2000, 1000.0), TOKENS, Naive(16)).rate()
    tally = watched(sentences(4 * rate, 3000, 0.12), Served(TOKENS, mixing=Mixing.PADDED))
    assert tally.n_late() == 0
    assert tally.goodput() >= 2.5 * rate


def test_lengths_that_must_not_be_padded_share_batches_among_equals() -> None:
    rnd = random.Random(3)
    requests = ask(poisson_times(1e5, 2000, rnd), rnd, 1e3, length=lambda rnd: -(-LENGTHS(rnd) // 64) * 64)
    tally = watched(requests, Served(TOKENS, mixing=Mixing.EQUAL))
    assert len(tally.answered) == 2000
    assert all(len({request.length for request in batch.requests}) == 1 for batch in tally.batches)
    assert max(batch.rows for batch in tally.batches) >= ROWS - 1


def test_where_batching_gains_nothing_nothing_is_batched() -> None:
    """The profile shows it and the policy obeys, with no special case: the median is lower, and no more are late."""
    flat = CostTable(linear_profile(0.01, 0.0), ROWS)
    rnd = random.Random(1)
    requests = ask(poisson_times(0.95 / flat.batch_s(1, 0), 4000, rnd), rnd, 0.5)
    ours, batched = watched(requests, Served(flat)), serve_naive(requests, flat, Naive(ROWS))
    assert max(batch.rows for batch in ours.batches) <= 4, "the hand-over is worth sharing, the model is not"
    assert ours.in_time_share() >= batched.in_time_share()
    assert ours.latency(0.5) < 0.95 * batched.latency(0.5)


def test_two_instances_share_one_queue_without_idling() -> None:
    rnd = random.Random(1)
    requests = ask(poisson_times(1.9 * PEAK, 4000, rnd), rnd, SLO_S)
    one, two = watched(requests, Served(COSTS)), watched(requests, Served(COSTS, instances=2))
    assert two.in_time_share() == 1.0, "twice the device, all of 1.9 times its peak"
    assert len(one.answered) < 2300
    busy_s = sum(COSTS.batch_s(batch.rows, 0) for batch in two.batches)
    assert busy_s / (2 * two.now) >= 0.95


@pytest.mark.parametrize("load", [0.5, 0.95, 1.1])
def test_forming_ahead_changes_no_batch_while_the_device_keeps_to_its_profile(load: float) -> None:
    late, early = watched(offered(load), Served(COSTS)), watched(offered(load), Served(COSTS, ahead=1))
    assert [ids(batch.requests) for batch in early.batches] == [ids(batch.requests) for batch in late.batches]
    assert [at for _, at in early.answered] == pytest.approx([at for _, at in late.answered])


@pytest.mark.parametrize("load", [1.1, 1.5, 2.0, 4.0])
def test_under_overload_too_where_deadlines_keep_batches_small_forming_ahead_hides_the_hand_over(load: float) -> None:
    ideal = watched(offered(load), Served(COSTS)).goodput()
    late, early = (watched(offered(load), Served(COSTS, ahead=ahead, hand_over_s=0.003)).goodput() for ahead in (0, 1))
    assert late < 0.94 * ideal
    assert early > 0.98 * ideal


@pytest.mark.parametrize(("mixing", "costs"), [(Mixing.ANY, COSTS), (Mixing.PADDED, TOKENS)])
def test_forming_ahead_hides_the_hand_over(mixing: Mixing, costs: CostTable) -> None:
    requests = sentences(1e5, 2000, 1e3)
    if mixing is Mixing.ANY:
        rnd = random.Random(1)
        requests = ask(poisson_times(1e5, 2000, rnd), rnd, 1e3)
    waits, hidden = (watched(requests, Served(costs, mixing=mixing, ahead=ahead, hand_over_s=0.002)) for ahead in (0, 1))
    ideal = watched(requests, Served(costs, mixing=mixing))
    assert waits.now > ideal.now + 0.002 * 0.9 * len(waits.batches)
    assert hidden.now < ideal.now + 0.002 * 0.2 * len(waits.batches)


def test_law_3_without_lengths_the_order_is_that_of_the_deadlines() -> None:
    rnd = random.Random(5)
    requests = ask(poisson_times(0.95 * PEAK, 4000, rnd), rnd, either(0.06, 0.4))
    assert watched(requests, Served(COSTS)).in_time_share() >= 0.99  # the onlooker asserts the order at every dispatch


def test_law_3_is_watched_in_scenarios_as_in_worlds(monkeypatch: pytest.MonkeyPatch) -> None:
    choose = Lane.choose
    monkeypatch.setattr(Lane, "choose", lambda self, now: choose(self, now)._replace(requests=self.waiting.first(10_000)[-1:]))
    with pytest.raises(BrokenLaw, match="law 3"):
        watched(offered(1.5), Served(COSTS))


@pytest.mark.parametrize("slowness", [2.0, 4.0, 8.0])
def test_a_device_slower_than_its_profile_is_learnt(slowness: float) -> None:
    requests = offered(1.2 / slowness, slo_s=SLO_S * slowness)
    tally = watched(requests, Served(COSTS, truth=lambda predicted_s, _: slowness * predicted_s))
    assert tally.goodput() * slowness / PEAK >= 0.9
    assert tally.n_late() <= 120, "nearly all of them before the pace was learnt"


def test_a_device_that_was_slow_for_a_while_is_trusted_again() -> None:
    def truth(predicted_s: float, now: float) -> float:
        return predicted_s * (8.0 if now < 1.0 else 1.0)

    tally = watched(offered(2.0, 8000), Served(COSTS, truth=truth))
    late_part = [batch for batch in tally.batches if batch.formed_at >= 2.0]
    rows = sum(batch.rows for batch in late_part)
    assert rows / (tally.now - late_part[0].formed_at) / PEAK >= 0.95
