"""Figures of agreement: by hand, and where they must be nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest

from optimizer.decoder.likeness import Likeness, compare


def test_the_same_predictions_agree_in_all() -> None:
    logits = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    found = compare(logits, logits + 3, np.arange(5))
    assert (found.top1, found.n_tokens) == (1.0, 5)
    assert found.kl < 1e-12
    assert math.isclose(found.perplexity, found.original, rel_tol=1e-6)
    assert math.isclose(found.error, 3, rel_tol=1e-6), "a shift changes no prediction, but it is told"


def test_by_hand() -> None:
    """The original: 3/4 and 1/4 twice; ours: even, then turned round. What follows is the first token both times."""
    theirs = np.log(np.array([[3.0, 1.0], [3.0, 1.0]]))
    mine = np.log(np.array([[1.0, 1.0], [1.0, 3.0]]))
    found = compare(mine, theirs, np.array([0, 0]))
    even = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    turned = 0.75 * math.log(3) + 0.25 * math.log(1 / 3)
    assert math.isclose(found.kl, (even + turned) / 2)
    assert math.isclose(found.worst_kl, turned)
    assert found.top1 == 0.5
    assert math.isclose(found.original, 4 / 3)
    assert math.isclose(found.perplexity, math.sqrt(8))
    assert math.isclose(found.rise, math.sqrt(8) * 3 / 4 - 1)
    assert Likeness.from_json(found.to_json()) == found
    assert found.sentence().startswith("perplexity 2.828, the original's 1.333; the same likeliest token in 50.00% of 2 places")


@pytest.mark.parametrize("of", ["the original", "mine", "both"])
def test_what_is_no_number_is_never_alike(of: str) -> None:
    mine, theirs = np.zeros((3, 5), np.float32), np.zeros((3, 5), np.float32)
    for name, logits in (("mine", mine), ("the original", theirs)):
        if of in (name, "both"):
            logits[1, 2] = np.nan
    found = compare(mine, theirs, np.array([0, 1, 2]))
    assert found.kl > 100
    assert found.worst_kl > 100
