from __future__ import annotations

import numpy as np
import pytest

from loadtests.capacity import Counted, Measure, capacity_result, judge, search
from loadtests.text import capacity_text


def world(capacity: float, *, keeps_up_to: float = float("inf")) -> Measure:
    """A server that misses 0.1 % up to its capacity and ever more above it."""

    def measure(rate: float, n: int, seed: int) -> Counted:
        share = 0.001 if rate <= capacity else min(1.0, 0.02 + (rate / capacity - 1) * 5)
        return Counted(n, int(np.random.default_rng(seed).binomial(n, share)), rate <= keeps_up_to)

    return measure


@pytest.mark.parametrize("capacity", [37.0, 500.0, 12_345.0])
@pytest.mark.parametrize("first", [10.0, 400.0, 50_000.0])
def test_the_capacity_is_found_from_anywhere(capacity: float, first: float) -> None:
    found = search(world(capacity), 0.05, first)
    assert found.rate == pytest.approx(capacity, rel=0.05)
    assert found.above is not None
    assert found.above <= found.rate * 1.03
    assert found.best is not None
    assert found.best.confidence >= 0.99
    assert "confidence" in capacity_text(found)
    assert capacity_result(found, {})["valid"]


def test_a_good_first_guess_saves_tries() -> None:
    found = search(world(500.0), 0.05, 480.0, first_step=1.1)
    assert found.rate == pytest.approx(500.0, rel=0.05)
    assert len(found.tries) < len(search(world(500.0), 0.05, 480.0).tries)


def test_a_wrong_guess_with_a_small_step_costs_few_tries_more() -> None:
    found = search(world(500.0), 0.05, 20_000.0, first_step=1.1)
    assert found.rate == pytest.approx(500.0, rel=0.05)
    assert len(found.tries) <= len(search(world(500.0), 0.05, 20_000.0).tries) + 4


def test_a_server_that_holds_nothing_has_no_capacity() -> None:
    found = search(lambda rate, n, seed: Counted(n, n // 2, True), 0.05, 100)
    assert found.rate == 0
    assert found.best is None
    assert "no rate" in capacity_text(found)
    assert not capacity_result(found, {})["valid"]


def test_a_generator_that_is_the_limit_is_told() -> None:
    found = search(world(10_000, keeps_up_to=900), 0.05, 100)
    assert found.rate == pytest.approx(900, rel=0.05)
    assert found.limited
    content = capacity_result(found, {})
    assert not content["valid"]
    assert "generator" in content["notices"][0]
    assert "LATE" in capacity_text(found)


def test_a_generator_that_is_late_once_changes_nothing() -> None:
    late = iter([True])
    steady = world(500)

    def measure(rate: float, n: int, seed: int) -> Counted:
        one = steady(rate, n, seed)
        return Counted(one.n, one.missed, rate < 600 or not next(late, False))

    found = search(measure, 0.05, 100)
    assert found.rate == pytest.approx(500, rel=0.05)
    assert not found.limited


def test_a_close_case_is_looked_at_again() -> None:
    assert judge(lambda rate, n, seed: Counted(n, 3, True), 100, 0).n == 4 * 459
    assert judge(lambda rate, n, seed: Counted(n, 0, True), 100, 0).n == 459
