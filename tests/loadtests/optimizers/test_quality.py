"""The bounds of quality, each on its own."""

from __future__ import annotations

import pytest

from loadtests.agreed import Agreement
from loadtests.optimizers.quality import Quality, quality_values


def quality(mean: float = 1.0, worst: float = 1.0, score: float | None = None, original: float | None = None) -> Quality:
    return Quality(Agreement("y", mean, worst, None, None), score, original)


@pytest.mark.parametrize(
    ("one", "failing"),
    [
        (quality(0.999, 0.99, 0.986, 0.99), []),
        (quality(0.9989), ["mean cosine 0.99890, wanted is 0.999"]),
        (quality(worst=0.98), ["worst cosine 0.98000, wanted is 0.99"]),
        (quality(score=0.98, original=0.99), ["a loss of 1.00 points, allowed are 0.5"]),
        (quality(0.5, 0.4, 0.1, 0.9), ["mean", "worst", "a loss of 80.00"]),
    ],
)
def test_what_fails_is_told_with_its_bound(one: Quality, failing: list[str]) -> None:
    assert len(one.failings) == len(failing)
    assert all(found.startswith(wanted) for found, wanted in zip(one.failings, failing, strict=True))


def test_without_a_score_there_is_no_loss_and_a_gain_is_negative() -> None:
    assert quality().loss is None
    assert quality(score=0.9, original=None).loss is None
    assert quality(score=0.95, original=0.9).loss == pytest.approx(-5)
    assert quality_values(quality(score=0.95, original=0.9))["failings"] == []
