"""The profile corrected online. l(b) = b + 4 ms."""

import random

import pytest

from server.contract.profile import Cell, Placement, Profile
from server.core.costs import CostTable
from server.core.forecast import N_BETWEEN_TRIALS, N_TRIALS, Forecast
from server.core.pace import N_ENOUGH, N_RECENT, N_SETTLED, RATIO_LIMITS
from server.core.types import Drift
from server.simulation.laws import DEVICE, linear_costs, linear_profile
from tests.server.core.build import MS, costs


def taught(table: CostTable, *batches: tuple[int, float], times: int = 1) -> Forecast:
    """A forecast after batches of (rows, how many times longer than predicted)."""
    forecast = Forecast(table)
    for _ in range(times):
        for rows, factor in batches:
            forecast.learn(rows, 0, factor * table.batch_s(rows, 0))
    return forecast


def test_untaught_it_is_the_profile() -> None:
    forecast = Forecast(costs())
    assert repr(forecast) == "<1.00 of the profile, guard 1.00, drift none>"
    assert forecast.takes_s(3, 0) == forecast.at_most_s(3, 0) == forecast.at_best_s(3, 0) == pytest.approx(7 * MS)


def test_the_first_batch_counts_for_more_than_later_ones() -> None:
    table = costs()
    assert taught(table, (4, 2.0)).ratio == pytest.approx(2.0)
    assert taught(table, *[(4, 1.0)] * 20, (4, 2.0)).ratio == pytest.approx(1.1)


def test_what_is_learnt_of_one_size_counts_for_the_others() -> None:
    forecast = taught(costs(), (8, 1.5), times=50)
    assert forecast.ratio_of(8) == pytest.approx(1.5)
    assert forecast.ratio_of(1) == pytest.approx(1.5)


def test_sizes_differ_and_what_is_between_is_interpolated() -> None:
    forecast = taught(costs(), (1, 1.0), (8, 2.0), times=200)
    assert forecast.ratio_of(1) == pytest.approx(1.0, rel=0.1)
    assert forecast.ratio_of(8) == pytest.approx(2.0, rel=0.1)
    assert forecast.ratio_of(2) < forecast.ratio_of(5) < forecast.ratio_of(8)


@pytest.mark.parametrize(("factor", "limit"), [(0.001, RATIO_LIMITS[0]), (1000.0, RATIO_LIMITS[1])])
def test_the_ratio_has_limits(factor: float, limit: float) -> None:
    assert taught(costs(), (1, factor), times=100).ratio == pytest.approx(limit)


def test_the_profiles_guard_counts_until_enough_was_measured() -> None:
    table = CostTable(Profile(DEVICE, Placement(1, 1), (Cell(1, 0, 0.0099, 0.012, 0.0139, 9, 0),)), 1)
    few = taught(table, (1, 1.0), times=N_SETTLED + N_ENOUGH - 1)
    assert (few.guard, few.at_most_s(1, 0)) == (1.0, pytest.approx(0.014))
    assert taught(table, (1, 1.0), times=N_SETTLED + N_ENOUGH).at_most_s(1, 0) == pytest.approx(0.010)


def test_the_guard_is_the_slowest_but_one_of_the_recent() -> None:
    forecast = taught(costs(), (4, 1.0), times=40)
    forecast.learn(4, 0, 3 * 8 * MS)
    assert forecast.guard == pytest.approx(1.0), "one slow run is an accident"
    forecast.learn(4, 0, 3 * 8 * MS)
    assert forecast.guard > 2
    for _ in range(N_RECENT):
        forecast.learn(4, 0, 8 * MS)
    assert forecast.guard < 1.05, "forgotten"


def test_being_slow_does_not_lock_requests_out_but_being_fast_lets_them_in() -> None:
    assert taught(costs(), (1, 8.0), times=20).at_best_s(1, 0) == pytest.approx(5 * MS)
    assert taught(costs(), (1, 0.5), times=20).at_best_s(1, 0) == pytest.approx(2.5 * MS)


@pytest.mark.parametrize(("factor", "drift"), [(1.1, Drift.NONE), (1.6, Drift.SLOWER), (0.6, Drift.FASTER)])
def test_the_alarm(factor: float, drift: Drift) -> None:
    table = costs()
    assert taught(table, (4, factor), times=5).drift is Drift.NONE, "not at once"
    assert taught(table, (4, factor), times=100).drift is drift


@pytest.mark.parametrize(("alpha_ms", "beta_ms", "knee"), [(1, 0.0001, 1), (1, 4, 7), (0.001, 4, 8), (1, 1, 6)])
def test_knee_is_the_fewest_rows_near_the_best_rate(alpha_ms: float, beta_ms: float, knee: int) -> None:
    table = costs(alpha_ms, max(beta_ms, 0.1001))
    rates = [rows / table.batch_s(rows, 0) for rows in range(1, 9)]
    wanted = next(rows for rows in range(1, 9) if rates[rows - 1] >= 0.95 * max(rates))
    assert Forecast(table).knee(0) == wanted


def test_full_batches_are_tried_before_the_profile_is_believed_that_they_bring_nothing() -> None:
    flat = linear_costs(0.01, 0.0002, 8)
    assert Forecast(flat).full(0) == 8
    assert taught(flat, (8, 1.0), times=N_TRIALS).full(0) < 8


WORSE = CostTable(
    Profile(DEVICE, Placement(1, 1), tuple(Cell(rows, 0, 0.01 * rows**1.2, 0.02, 0.02, 1, 0) for rows in (1, 2, 4, 8))), 8
)
"""A row costs more the more there are in a batch."""


def test_a_trial_that_deadlines_cut_is_one_too() -> None:
    """Else a model whose full batch never fits its SLO runs the largest that does, for ever."""
    assert Forecast(WORSE).full(0) == 8
    assert Forecast(WORSE).best(0) == taught(WORSE, (5, 1.0), times=N_TRIALS).full(0) == 1
    assert taught(WORSE, (1, 1.0), times=100).full(0) == 8, "not tried yet"


def test_trials_are_as_rare_where_small_batches_are_best() -> None:
    forecast = taught(WORSE, (8, 1.0), times=N_TRIALS)
    n = 0
    while forecast.full(0) < 8:
        forecast.learn(1, 0, WORSE.batch_s(1, 0))
        n += 1
    assert n == 8 * N_BETWEEN_TRIALS + 1


def test_targets_follow_what_is_measured_of_the_sizes() -> None:
    flat = linear_costs(0.01, 0.0002, 8)
    gains = taught(flat, (8, 0.5), (4, 0.6), (2, 0.8), (1, 1.0), times=50)
    assert Forecast(flat).knee(0) == 1
    assert gains.knee(0) >= 7
    assert gains.full(0) >= 7


def test_the_targets_do_not_depend_on_when_they_were_asked_for() -> None:
    """Who replays the same batches, and asks at other moments, gets the same targets."""
    for seed in range(30):
        rnd = random.Random(seed)
        asked, silent = Forecast(costs(max_rows=16)), Forecast(costs(max_rows=16))
        for _ in range(80):
            rows, took_s = rnd.randint(1, 16), rnd.uniform(4, 30) * MS
            asked.learn(rows, 0, took_s)
            silent.learn(rows, 0, took_s)
            asked.knee(0)
        assert (asked.knee(0), asked.full(0)) == (silent.knee(0), silent.full(0)), f"seed {seed}"


def test_brief_batches_raise_no_alarm() -> None:
    table = CostTable(linear_profile(1e-4, 0.0), 32, brief_s=5.5e-4)
    forecast = Forecast(table)
    for _ in range(300):
        forecast.learn(1, 0, 3 * table.batch_s(1, 0))
    assert forecast.drift is Drift.NONE
    assert forecast.takes_s(1, 0) == pytest.approx(3 * table.batch_s(1, 0), rel=0.01)
    for _ in range(300):
        forecast.learn(32, 0, 3 * table.batch_s(32, 0))
    assert forecast.drift is Drift.SLOWER


@pytest.mark.parametrize("slow_share", [0.0, 0.02, 0.1])
def test_runs_that_are_slow_by_accident_do_not_part_the_ratio_from_the_shapes(slow_share: float) -> None:
    """What is believed of sizes that never ran must stay what batches take on the average, and not grow with every accident."""
    forecast, rnd = Forecast(costs(max_rows=64)), random.Random(1)
    for _ in range(5000):
        rows = rnd.choice((8, 16, 16, 16))
        forecast.learn(rows, 0, forecast.costs.batch_s(rows, 0) * rnd.gauss(1, 0.05) * (8 if rnd.random() < slow_share else 1))
    mean = 1 + 7 * slow_share
    assert forecast.ratio_of(64) == pytest.approx(mean, rel=0.25)
    assert forecast.ratio == pytest.approx(mean, rel=0.25)


def test_sizes_that_ran_are_expected_as_before_when_the_ratio_settles() -> None:
    forecast = Forecast(costs(max_rows=64))
    for _ in range(100):
        forecast.learn(4, 0, 2 * forecast.costs.batch_s(4, 0))
        forecast.learn(32, 0, 0.8 * forecast.costs.batch_s(32, 0))
    for _ in range(400):  # those that run now are not the usual ones
        forecast.learn(32, 0, 0.8 * forecast.costs.batch_s(32, 0))
    assert forecast.ratio == pytest.approx(0.8, rel=0.05)
    assert forecast.ratio_of(32) == pytest.approx(0.8, rel=0.02)
    assert forecast.ratio_of(4) == pytest.approx(2.0, rel=0.1)
