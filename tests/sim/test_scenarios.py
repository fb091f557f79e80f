"""What the policy is for, in virtual time: each scenario has exact counts, and the naive server that loses it beside it."""

from __future__ import annotations

import random
import statistics

import pytest

from server.core.costs import CostTable
from server.core.invariants import BrokenLaw
from server.core.lane import Lane
from server.core.types import Close, InferRequest, Mixing
from tests.server.core.build import ids
from tests.sim.profiles import linear_profile
from tests.sim.station import KEY, Request, Tally, poisson, serve, serve_fifo

SLO_S = 0.1
ROWS = 32
COSTS = CostTable(linear_profile(0.001, 0.004), ROWS)  # l(b) = b + 4.1 ms
PEAK = ROWS / COSTS.batch_s(ROWS, 0)  # 886 rows/s


def offered(load: float, n_requests: int = 4000, slo_s: float = SLO_S) -> list[Request]:
    return poisson(load * PEAK, n_requests, slo_s)


def in_time_share(tally: Tally) -> float:
    n_in_time = len(tally.latencies) - tally.n_late
    return n_in_time / (len(tally.latencies) + tally.n_refused)


def test_at_one_percent_load_nobody_waits_for_a_timer() -> None:
    tally = serve(offered(0.01, 1000), COSTS)
    alone_s = COSTS.batch_s(1, 0)
    assert statistics.median(tally.latencies) == pytest.approx(alone_s, rel=1e-9)
    assert sum(latency < alone_s + 1e-9 for latency in tally.latencies) == 960, "all but those who met a busy device"
    assert {batch.close for batch in tally.batches} == {Close.IDLE}


@pytest.mark.parametrize(
    ("load", "n_answered", "least_goodput"),
    [(0.9, 4000, 0.92), (1.0, 3876, 0.97), (1.5, 2612, 0.97), (2.0, 1975, 0.97), (4.0, 1029, 0.97)],
)
def test_overload_costs_the_surplus_and_nothing_else(load: float, n_answered: int, least_goodput: float) -> None:
    tally = serve(offered(load), COSTS)
    assert (len(tally.latencies), tally.n_late) == (n_answered, 0)
    assert tally.n_refused == 4000 - n_answered
    assert tally.goodput / PEAK >= least_goodput


@pytest.mark.parametrize(("load", "most_goodput"), [(1.5, 0.04), (2.0, 0.04), (4.0, 0.04)])
def test_an_unbounded_queue_collapses_under_the_same_load(load: float, most_goodput: float) -> None:
    tally = serve_fifo(offered(load), COSTS, ROWS)
    assert tally.n_refused == 0
    assert tally.goodput / PEAK < most_goodput


@pytest.mark.parametrize(
    ("slo_in_full_batches", "load", "least"), [(1.25, 0.8, 0.985), (1.5, 0.85, 0.985), (2, 0.9, 0.99), (3, 0.97, 0.99)]
)
def test_near_the_peak_nearly_all_are_in_time(slo_in_full_batches: float, load: float, least: float) -> None:
    assert in_time_share(serve(offered(load, slo_s=slo_in_full_batches * COSTS.batch_s(ROWS, 0)), COSTS)) >= least


def test_an_slo_far_below_a_full_batch_is_kept_at_a_fair_rate() -> None:
    tally = serve(offered(1.8, slo_s=0.02), COSTS)
    best = 6 / COSTS.batch_s(6, 0)  # two batches of 6 take 20 ms
    assert tally.n_late == 0
    assert tally.goodput >= best


@pytest.mark.parametrize(("mean_load", "least"), [(0.5, 0.80), (0.7, 0.64)])
def test_bursts_three_times_the_mean(mean_load: float, least: float) -> None:
    rnd = random.Random(4)
    at, requests = 0.0, []
    for number in range(8000):
        factor = 3 if at % 2.0 < 0.5 else 1 / 3
        at += rnd.expovariate(factor * mean_load * PEAK)
        requests.append(InferRequest(number, KEY, 1, 0, at, at + SLO_S, None))
    assert in_time_share(serve(requests, COSTS)) >= least


def test_without_giving_heads_up_overload_ends_in_small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scenario that the policy's one refusal after admission is for."""
    monkeypatch.setattr("server.core.policy.KEEP", 0.0)
    assert serve(offered(2.0), COSTS).goodput / PEAK < 0.5


TOKENS = CostTable(linear_profile(1e-5, 0.002, lengths=(8, 16, 32, 64, 128, 256, 512)), ROWS)


def sentences(rate: float, n_requests: int, slo_s: float) -> list[Request]:
    """Log-normal lengths: median 60, sigma 0.9, at most 512."""
    rnd = random.Random(3)
    at, requests = 0.0, []
    for number in range(n_requests):
        at += rnd.expovariate(rate)
        length = max(3, min(512, int(rnd.lognormvariate(4.094, 0.9))))
        requests.append(InferRequest(number, KEY, 1, length, at, at + slo_s, None))
    return requests


def test_sorting_by_length_beats_padding_in_order_of_arrival() -> None:
    backlog = sentences(rate=1e5, n_requests=3000, slo_s=1000.0)
    by_length, in_order = serve(backlog, TOKENS, Mixing.PADDED), serve_fifo(backlog, TOKENS, 16)
    assert len(by_length.latencies) == len(in_order.latencies) == 3000
    assert by_length.rate >= 2.5 * in_order.rate


def test_mixed_lengths_under_overload_are_answered_in_time() -> None:
    rate = serve_fifo(sentences(1e5, 2000, 1000.0), TOKENS, 16).rate
    tally = serve(sentences(4 * rate, 3000, 0.12), TOKENS, Mixing.PADDED)
    assert tally.n_late == 0
    assert tally.goodput >= 2.5 * rate


def test_lengths_that_must_not_be_padded_share_batches_among_equals() -> None:
    requests = [
        InferRequest(r.id, KEY, 1, -(-r.length // 64) * 64, r.arrived_at, r.deadline_at, None)
        for r in sentences(1e5, 2000, 1e3)
    ]
    tally = serve(requests, TOKENS, Mixing.EQUAL)
    assert len(tally.latencies) == 2000
    assert all(len({request.length for request in batch.requests}) == 1 for batch in tally.batches)
    assert max(batch.rows for batch in tally.batches) == ROWS


def test_two_instances_share_one_queue_without_idling() -> None:
    requests = poisson(1.9 * PEAK, 4000, SLO_S)
    one, two = serve(requests, COSTS), serve(requests, COSTS, instances=2)
    assert (len(two.latencies), two.n_late, two.n_refused) == (4000, 0, 0), "twice the device, all of 1.9 times its peak"
    assert len(one.latencies) < 2300
    busy_s = sum(COSTS.batch_s(batch.rows, 0) for batch in two.batches)
    assert busy_s / (2 * two.ended_at) >= 0.95


@pytest.mark.parametrize("load", [0.5, 0.95, 1.1, 1.5])
def test_forming_ahead_changes_no_batch_while_the_device_keeps_to_its_profile(load: float) -> None:
    late, early = serve(offered(load), COSTS), serve(offered(load), COSTS, ahead=1)
    assert [ids(batch.requests) for batch in early.batches] == [ids(batch.requests) for batch in late.batches]
    assert early.latencies == pytest.approx(late.latencies)


@pytest.mark.parametrize(("mixing", "costs"), [(Mixing.ANY, COSTS), (Mixing.PADDED, TOKENS)])
def test_forming_ahead_hides_the_hand_over(mixing: Mixing, costs: CostTable) -> None:
    requests = sentences(1e5, 2000, 1e3) if mixing is Mixing.PADDED else poisson(1e5, 2000, 1e3)
    waits, hidden = (serve(requests, costs, mixing, ahead=ahead, hand_over_s=0.002) for ahead in (0, 1))
    ideal = serve(requests, costs, mixing)
    assert waits.ended_at == pytest.approx(ideal.ended_at + 0.002 * len(waits.batches))
    assert hidden.ended_at < ideal.ended_at + 0.002 * 0.2 * len(waits.batches)


def test_law_3_without_lengths_the_order_is_that_of_the_deadlines() -> None:
    rnd = random.Random(5)
    requests = [
        InferRequest(r.id, KEY, 1, 0, r.arrived_at, r.arrived_at + rnd.choice((0.06, 0.4)), None) for r in offered(0.95)
    ]
    tally = serve(requests, COSTS)  # the onlooker asserts the order at every dispatch
    assert in_time_share(tally) >= 0.999, "an urgent head takes a smaller batch where the others can afford it"
    urgent = [
        request.id for batch in tally.batches for request in batch.requests if request.deadline_at - request.arrived_at < 0.1
    ]
    assert urgent == sorted(urgent), "among equally urgent ones, the order of arrival"


def test_law_3_is_asserted_in_these_worlds(monkeypatch: pytest.MonkeyPatch) -> None:
    choose = Lane.choose
    monkeypatch.setattr(Lane, "choose", lambda self, now: choose(self, now)._replace(requests=self.waiting.first(10_000)[-1:]))
    with pytest.raises(BrokenLaw, match="law 3"):
        serve(offered(1.5), COSTS)


@pytest.mark.parametrize(("slowness", "n_late"), [(2.0, 68), (4.0, 82), (8.0, 110)])
def test_a_device_slower_than_its_profile_is_learnt(slowness: float, n_late: int) -> None:
    requests = offered(1.2 / slowness, slo_s=SLO_S * slowness)
    tally = serve(requests, COSTS, truth=lambda predicted_s, _: slowness * predicted_s)
    assert tally.goodput * slowness / PEAK >= 0.9
    assert tally.n_late == n_late, "all of them before the pace was learnt"


def test_a_device_that_was_slow_for_a_while_is_trusted_again() -> None:
    def truth(predicted_s: float, now: float) -> float:
        return predicted_s * (8.0 if now < 1.0 else 1.0)

    requests = offered(2.0, 8000)
    tally = serve(requests, COSTS, truth=truth)
    late_part = [batch for batch in tally.batches if batch.formed_at >= 2.0]
    rows = sum(batch.rows for batch in late_part)
    assert rows / (tally.ended_at - late_part[0].formed_at) / PEAK >= 0.95
