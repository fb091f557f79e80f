"""The sliding window against exact quantiles, on a clock of the test's own."""

from __future__ import annotations

import math
import random

import pytest

from server.telemetry.window import SlidingWindow


@pytest.mark.parametrize("seed", range(5))
def test_quantiles_are_within_one_percent_of_the_exact_ones(seed: int) -> None:
    rng = random.Random(seed)
    latencies = [math.exp(rng.gauss(-5, 1.5)) for _ in range(5000)]
    window = SlidingWindow()
    for n, latency in enumerate(latencies):
        window.record((latency,), 100 + n / 500)
    summary = window.summary(110)
    exact = sorted(latencies)
    assert summary.p50_s == pytest.approx(exact[2499], rel=0.01)
    assert summary.p99_s == pytest.approx(exact[4949], rel=0.01)


def test_the_rate_is_that_of_the_time_since_the_first_record() -> None:
    window = SlidingWindow()
    for n in range(1000):
        window.record((0.001,), 50 + n / 100)
    assert window.summary(60).rate == pytest.approx(100, rel=0.01)


def test_a_full_window_gives_the_rate_of_the_last_half_minute() -> None:
    window = SlidingWindow()
    for n in range(20_000):
        window.record((0.001,), n / 100)
    assert window.summary(199.99).rate == pytest.approx(100, rel=0.01)


def test_records_expire_after_the_window() -> None:
    window = SlidingWindow(n_slices=30)
    window.record((1.0,), 10.5)
    window.record((0.001,), 39.5)
    assert window.summary(39.9).p99_s == pytest.approx(1.0, rel=0.01)
    assert window.summary(40.0).p99_s == pytest.approx(0.001, rel=0.01)
    assert math.isnan(window.summary(100.0).p50_s)
    assert window.summary(100.0).rate == 0


def test_after_a_silence_the_rate_starts_anew() -> None:
    window = SlidingWindow()
    window.record((0.001,), 10)
    for n in range(100):
        window.record((0.001,), 1000 + n / 100)
    assert window.summary(1001).rate == pytest.approx(100, rel=0.02)


def test_an_empty_window_has_no_quantiles_and_no_rate() -> None:
    summary = SlidingWindow().summary(5.0)
    assert math.isnan(summary.p50_s)
    assert math.isnan(summary.p99_s)
    assert summary.rate == 0


@pytest.mark.parametrize("latency", [0.0, 1e-9, 1e-6, 1e9])
def test_latencies_off_the_scale_are_counted_at_its_ends(latency: float) -> None:
    window = SlidingWindow()
    window.record((latency,), 1.0)
    assert window.summary(1.5).rate == 1.0
    assert 1e-6 <= window.summary(1.5).p50_s <= 110


def test_one_outlier_in_a_hundred_is_above_p99_and_two_are_not() -> None:
    window = SlidingWindow()
    for latency in [0.001] * 99 + [1.0]:
        window.record((latency,), 1.0)
    assert window.summary(1.0).p99_s == pytest.approx(0.001, rel=0.01)
    window.record((1.0,), 1.0)
    assert window.summary(1.0).p99_s == pytest.approx(1.0, rel=0.01)
