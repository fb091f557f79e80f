"""Costs as table look-ups."""

import math

import pytest

from server.contract.profile import Cell, Placement, Profile
from server.core.costs import HAND_OFF_S, CostTable
from server.simulation.laws import DEVICE, linear_profile
from tests.server.core.build import costs


def test_costs_are_the_profile_plus_the_hand_off() -> None:
    profile = linear_profile(0.001, 0.004, lengths=(4, 8))
    table = CostTable(profile, max_rows=4)
    for rows in (1, 2, 4):
        for length in (4, 5, 8):
            assert math.isclose(table.batch_s(rows, length), HAND_OFF_S + profile.predict(rows, length))
    assert table.line(8) == [table.batch_s(rows, 8) for rows in (1, 2, 3, 4)]
    assert table.max_rows == 4


def test_lengths_are_rounded_up_to_a_64th_of_the_longest() -> None:
    table = CostTable(linear_profile(1e-5, 0.001, lengths=(1, 640)), max_rows=2)
    assert table.batch_s(1, 1) == table.batch_s(1, 10) < table.batch_s(1, 11)
    assert math.isclose(table.batch_s(1, 640), HAND_OFF_S + 0.0074)
    assert table.batch_s(2, 5000) == table.batch_s(2, 640), "past the longest: as the longest"
    assert table.row_s(5000) == table.row_s(640)
    assert table.knee(5000) == table.knee(640)
    assert table.guard_s(1, 5000) == table.guard_s(1, 640)


def test_guard_is_how_late_a_slow_run_is() -> None:
    profile = Profile(DEVICE, Placement(3, 1), (Cell(1, 0, 0.010, 0.012, 0.015, 9, 0),))
    table = CostTable(profile, max_rows=1)
    assert math.isclose(table.guard_s(1, 0), 0.005)


@pytest.mark.parametrize(("alpha_ms", "beta_ms", "knee"), [(1, 0.0001, 1), (1, 4, 7), (0.001, 4, 8), (1, 1, 6)])
def test_knee_is_the_fewest_rows_near_the_best_rate(alpha_ms: float, beta_ms: float, knee: int) -> None:
    table = costs(alpha_ms, beta_ms)
    rates = [rows / table.batch_s(rows, 0) for rows in range(1, 9)]
    assert table.knee(0) == knee == next(rows for rows in range(1, 9) if rates[rows - 1] >= 0.95 * max(rates))
    assert math.isclose(table.row_s(0), 1 / max(rates))
