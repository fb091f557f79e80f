"""Costs as table look-ups."""

import math

from server.contract.profile import Cell, Placement, Profile
from server.core.costs import HAND_OFF_S, START_S, CostTable, targets
from server.simulation.laws import DEVICE, linear_profile


def test_costs_are_the_profile_plus_the_hand_off() -> None:
    profile = linear_profile(0.001, 0.004, lengths=(4, 8))
    table = CostTable(profile, max_rows=4)
    for rows in (1, 2, 4):
        for length in (4, 5, 8):
            assert math.isclose(table.batch_s(rows, length), HAND_OFF_S + profile.predict(rows, length))
    assert table.line(8) == [table.batch_s(rows, 8) for rows in (1, 2, 3, 4)]
    assert table.max_rows == 4


def test_brief_batches_are_handed_to_nobody() -> None:
    profile = linear_profile(0.001, 0.0, lengths=(1, 2))
    table = CostTable(profile, max_rows=8, brief_s=0.005)
    assert [rows for rows in range(1, 9) if table.is_brief(rows, 1)] == [1, 2, 3, 4]
    assert [rows for rows in range(1, 9) if table.is_brief(rows, 2)] == [1, 2]
    assert math.isclose(table.batch_s(4, 1), START_S + profile.predict(4, 1))
    assert math.isclose(table.batch_s(5, 1), HAND_OFF_S + profile.predict(5, 1))
    assert not CostTable(profile, max_rows=8).is_brief(1, 1), "unless somebody says how brief is brief"


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


def test_targets_are_the_knee_and_practically_the_best() -> None:
    assert targets([5.0, 6.0, 7.0, 8.0], 0.0) == (4, 4)
    assert targets([1.0, 1.9, 2.9, 3.9], 0.0) == (1, 2)
    assert targets([1.0, 2.0, 2.999], 0.0) == (1, 1), "what brings next to nothing is not waited for"
    assert targets([1.0, 1.8, 2.65], 0.0) == (2, 3)


def test_small_brief_batches_are_dearer_than_they_are_long() -> None:
    """What the loop spends on each of them counts where another batch could run meanwhile: not on a thread of its own."""
    line = [START_S + rows * 3e-6 for rows in range(1, 33)]
    best = 32 / line[-1]
    line += [rows / (0.99 * best) for rows in range(33, 65)]  # as far as the device goes, more rows bring nothing
    assert targets(line, brief_s=0.0)[1] == 32
    assert targets(line, brief_s=1e-3)[1] == 64
