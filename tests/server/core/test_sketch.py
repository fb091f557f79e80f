"""The law of batches that ran: exact where they obey one, careful where they do not say."""

import random
from itertools import pairwise

import pytest

from server.core.sketch import REDRAW, Sketch


def taught(*batches: tuple[int, int, float], longest: int = 0) -> Sketch:
    """After batches of (rows, length, seconds)."""
    sketch = Sketch(longest)
    for batch in batches:
        sketch.learn(*batch)
    return sketch


def test_before_the_first_batch_everything_costs_nothing() -> None:
    sketch = Sketch(64)
    assert sketch.law.predict(8, 64) == sketch.law.predict_p99(8, 64) == 0.0
    assert sketch.law.measured_lengths == (64,)


def test_one_batch_says_what_the_least_is() -> None:
    """More rows take at least as long, fewer at least their share, and so for lengths."""
    sketch = taught((4, 16, 0.02), longest=64)
    assert [sketch.law.predict(rows, 16) for rows in (1, 4, 32)] == pytest.approx([0.005, 0.02, 0.02])
    assert [sketch.law.predict(4, length) for length in (0, 8, 64)] == pytest.approx([0.00125, 0.01, 0.02])
    assert sketch.law.predict_p99(4, 16) == pytest.approx(0.02), "nothing is known of its spread"


@pytest.mark.parametrize(
    ("a", "b", "c", "d"),
    [(0.004, 0.001, 0.0, 0.0), (0.004, 0.0, 1e-5, 0.0), (0.002, 0.001, 1e-5, 0.0), (0.0, 0.01, 0.0, 0.0), (0.01, 0.0, 0.0, 0.0),
     (0.002, 0.0, 1e-5, 2e-8), (0.0, 0.0, 1e-5, 1e-8), (0.002, 0.001, 1e-5, 2e-8)],
)  # fmt: skip
def test_batches_that_obey_a_law_are_known_exactly(a: float, b: float, c: float, d: float) -> None:
    def took_s(rows: int, length: int) -> float:
        return a + rows * (b + c * length + d * length * length)

    sizes = [(1, 8), (8, 8), (32, 64), (2, 512), (16, 100), (1, 512), (1, 1)]
    sketch = taught(*[(rows, length, took_s(rows, length)) for rows, length in sizes], longest=512)
    for rows, length in ((1, 8), (32, 512), (5, 77)):
        assert sketch.law.predict(rows, length) == pytest.approx(took_s(rows, length), rel=0.02)


def test_without_lengths_rows_alone_count() -> None:
    sketch = taught((1, 0, 0.005), (32, 0, 0.036))
    assert sketch.law.predict(16) == pytest.approx(0.02)
    assert sketch.law.predict(64) == pytest.approx(0.068), "the law goes on"
    assert repr(sketch) == "<0.004 + rows·(0.001 + 0 length + 0 length²), from 2 batches>"


def test_no_cost_is_below_zero() -> None:
    """Larger batches that were quicker by accident do not make yet larger ones free."""
    sketch = taught((1, 0, 0.02), (2, 0, 0.01), (4, 0, 0.005))
    assert sketch.law.predict(64) >= sketch.law.predict(4) > 0


def test_the_guard_is_the_spread_around_the_law() -> None:
    rnd = random.Random(1)
    sketch = Sketch(0)
    for n in range(400):
        rows = 1 + n % 32
        sketch.learn(rows, 0, (0.004 + 0.001 * rows) * rnd.gauss(1.0, 0.05))
    assert sketch.law.predict_p99(8) / sketch.law.predict(8) == pytest.approx(1 + 2.33 * 0.05, rel=0.02)
    wild = taught((1, 0, 0.001), (1, 0, 1.0), (1, 0, 0.002))
    assert wild.law.predict_p99(1) < 2.2 * wild.law.predict(1)


def test_it_is_drawn_anew_ever_more_seldom_and_when_batches_get_larger() -> None:
    sketch = Sketch(0)
    drawn = [n for n in range(1, 100) if sketch.learn(1, 0, 0.01)]
    assert drawn[:5] == [1, 2, 3, 5, 8]
    assert all(later >= REDRAW * one for one, later in pairwise(drawn))
    assert not sketch.learn(1, 0, 0.01)
    assert sketch.learn(2, 0, 0.01)
    assert not sketch.learn(3, 0, 0.01)
    assert sketch.learn(4, 0, 0.01)
