"""What those who have ended tell about those who have not."""

import pytest

from server.core.lifetimes import N_POINTS, N_RECENT, Lifetimes


def test_where_nothing_is_known_everything_is_as_likely() -> None:
    shares = Lifetimes().shares(0.5)
    assert len(shares) == N_POINTS
    assert shares[0] == pytest.approx(0.5 + 0.5 / 16)
    assert shares[-1] == pytest.approx(1 - 0.5 / 16)


def test_who_has_taken_much_is_like_those_that_took_more() -> None:
    lifetimes = Lifetimes()
    for taken in (10, 20, 30, 100):
        lifetimes.learn(taken, 100)
    assert lifetimes.shares(0.0) == (0.1, 0.1, 0.2, 0.2, 0.3, 0.3, 1.0, 1.0)
    assert lifetimes.shares(0.2) == (0.3, 0.3, 0.3, 0.3, 1.0, 1.0, 1.0, 1.0)
    assert lifetimes.shares(0.3) == (1.0,) * N_POINTS
    assert lifetimes.shares(1.0) == [1.0] * N_POINTS


def test_only_the_recent_count() -> None:
    lifetimes = Lifetimes()
    lifetimes.learn(1, 100)
    for _ in range(N_RECENT):
        lifetimes.learn(50, 100)
    assert lifetimes.shares(0.0) == (0.5,) * N_POINTS
