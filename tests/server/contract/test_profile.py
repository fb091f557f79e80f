"""Profiles: a prediction that never falls when rows or length grow."""

import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from server.contract.profile import FAR, Cell, Placement, Profile
from server.simulation.laws import DEVICE, linear_profile


def grid_profile(rows: list[int], lengths: list[int], times: list[float]) -> Profile:
    places = [(r, n) for r in rows for n in lengths]
    cells = [Cell(r, n, time, time, 2 * time, 1, 0) for (r, n), time in zip(places, times, strict=True)]
    return Profile(DEVICE, Placement(1, 1), tuple(cells))


def test_predicts_between_the_cells_and_past_them() -> None:
    profile = linear_profile(0.001, 0.004, rows=(2, 4, 8), lengths=(1, 10))
    assert math.isclose(profile.predict(4, 10), 0.044)
    assert math.isclose(profile.predict(3, 10), 0.034)
    assert math.isclose(profile.predict(4, 5), 0.024)
    assert math.isclose(profile.predict(16, 10), 0.164), "the last slope goes on"
    assert math.isclose(profile.predict(8, 20), 0.164)
    assert profile.predict(1, 1) == profile.predict(2, 1), "below the first mark the fixed cost stands"
    assert profile.predict(2, 0) == profile.predict(2, 1)
    assert profile.predict(8 * FAR, 10) == profile.predict(9 * FAR, 10), "extrapolation ends"


def test_one_cell_predicts_itself_everywhere() -> None:
    profile = grid_profile([4], [0], [0.5])
    assert [profile.predict(rows, length) for rows, length in ((1, 0), (4, 0), (9, 9))] == [0.5, 0.5, 0.5]
    assert profile.predict_p99(4) == 1.0


def test_peak_rate_is_that_of_all_instances() -> None:
    assert math.isclose(linear_profile(0.001, 0.004, rows=(1, 4), instances=3).peak_rate(), 3 * 4 / 0.008)


def test_noise_never_makes_a_larger_batch_cheaper() -> None:
    profile = grid_profile([1, 2], [1, 2], [5.0, 3.0, 1.0, 4.0])
    assert [profile.predict(r, n) for r in (1, 2) for n in (1, 2)] == [5.0, 5.0, 5.0, 5.0]


marks = st.lists(st.integers(1, 60), min_size=1, max_size=4, unique=True).map(sorted)


@st.composite
def profiles(draw: st.DrawFn) -> Profile:
    rows, lengths = draw(marks), draw(marks)
    times = st.lists(st.floats(1e-6, 10.0), min_size=len(rows) * len(lengths), max_size=len(rows) * len(lengths))
    return grid_profile(rows, lengths, draw(times))


@given(profiles(), st.integers(1, 200), st.integers(0, 200), st.integers(0, 50), st.integers(0, 50))
def test_never_falls_when_rows_or_length_grow(profile: Profile, rows: int, length: int, more: int, longer: int) -> None:
    for predict in (profile.predict, profile.predict_p99):
        less = predict(rows, length)
        assert 0 < less <= predict(rows + more, length + longer) * (1 + 1e-9)


@given(profiles())
def test_cells_that_are_monotone_are_predicted_exactly(profile: Profile) -> None:
    cells: Any = {(c.rows, c.length): c.p50_s for c in profile.cells}
    for (rows, length), time_s in cells.items():
        smaller = [t for (r, n), t in cells.items() if r <= rows and n <= length]
        assert profile.predict(rows, length) == max(smaller) >= time_s
