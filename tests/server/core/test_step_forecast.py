"""The correction of what a step takes: two ratios out of one measured time."""

import pytest

from server.core.costs import LinearSteps
from server.core.pace import N_ENOUGH, N_SETTLED, RATIO_LIMITS
from server.core.step_forecast import StepForecast
from server.core.types import Drift
from tests.server.core.build import MS, STEPS


def test_at_first_it_is_the_profile() -> None:
    forecast = StepForecast(STEPS)
    assert forecast.decode_s(4, 100) == pytest.approx(5 * MS)
    assert forecast.decode_s(0, 0) == forecast.decode_at_best_s(0, 0) == 0.0
    assert forecast.prefill_s(10) == forecast.row_s(10) == pytest.approx(2 * MS)
    assert repr(forecast) == "<decode 1.00, prefill 1.00 of the profile, guard 1.00, drift none>"


def test_a_step_of_one_kind_corrects_that_kind() -> None:
    forecast = StepForecast(STEPS)
    for _ in range(50):
        forecast.learn(5 * MS, 0.0, 10 * MS)
    assert forecast.decode_ratio == pytest.approx(2.0)
    assert forecast.prefill_ratio == 1.0
    for _ in range(50):
        forecast.learn(0.0, 2 * MS, 1 * MS)
    assert forecast.prefill_ratio == pytest.approx(0.5, rel=0.01)
    assert forecast.decode_s(4, 0) == pytest.approx(10 * MS)
    assert forecast.prefill_s(10) == pytest.approx(1 * MS, rel=0.01)


def test_steps_of_both_kinds_tell_them_apart() -> None:
    """Decoding is half as dear as believed, prefill twice."""
    forecast = StepForecast(STEPS)
    for _ in range(400):
        forecast.learn(5 * MS, 0.0, 2.5 * MS)
        forecast.learn(5 * MS, 4 * MS, 10.5 * MS)
    assert forecast.decode_ratio == pytest.approx(0.5, rel=0.02)
    assert forecast.prefill_ratio == pytest.approx(2.0, rel=0.02)


def test_the_best_case_knows_no_slow_device() -> None:
    forecast = StepForecast(STEPS)
    for _ in range(50):
        forecast.learn(5 * MS, 0.0, 10 * MS)
        forecast.learn(0.0, 2 * MS, 4 * MS)
    assert forecast.decode_at_best_s(4, 0) == pytest.approx(5 * MS)
    assert forecast.prefill_at_best_s(10) == pytest.approx(2 * MS)
    assert forecast.drift is Drift.SLOWER


def test_the_margin_is_twice_the_distance_of_the_guard() -> None:
    forecast = StepForecast(LinearSteps(0.001, guard=1.1))
    assert forecast.margin == pytest.approx(1.2), "the profile's, until it was measured"
    for number in range(N_SETTLED + N_ENOUGH):
        forecast.learn(1 * MS, 0.0, (1.3 if number % 8 == 7 else 1.0) * MS)
    assert forecast.margin == pytest.approx(2 * forecast.guard - 1)
    assert forecast.guard > 1.2


def test_people_are_told_the_ratio_of_whole_steps_and_how_far_off_profile_and_forecast_are() -> None:
    forecast = StepForecast(STEPS)
    for _ in range(200):
        forecast.learn(5 * MS, 0.0, 10 * MS)
        forecast.learn(5 * MS, 4 * MS, 14 * MS)
    assert forecast.ratio == pytest.approx((2.0 + 14 / 9) / 2, rel=0.05)
    assert forecast.profile_error == pytest.approx((1.0 + 5 / 9) / 2, rel=0.05)
    assert forecast.error == pytest.approx(0.0, abs=0.01), "it has learnt both kinds"


def test_one_absurd_time_moves_nothing_beyond_the_limits() -> None:
    forecast = StepForecast(STEPS)
    forecast.learn(5 * MS, 0.0, 10.0)
    assert forecast.decode_ratio == RATIO_LIMITS[1]
