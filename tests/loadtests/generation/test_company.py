"""Answers against what was promised to them."""

from __future__ import annotations

import pytest

from loadtests.generation.company import Streamed, streamed
from loadtests.generation.streams import Answer


def answer(first_s: float, *gaps_s: float) -> Answer:
    token_at = [10.0 + first_s]
    for gap_s in gaps_s:
        token_at.append(token_at[-1] + gap_s)
    return Answer(10.0, 200, token_at=token_at)


def test_each_request_is_in_one_share_only() -> None:
    answers = [
        answer(0.5, 0.01), answer(0.9), answer(1.5, 0.01), answer(1.5, 0.3), answer(0.5, 0.01, 0.3), Answer(10.0, 503), Answer(10.0, 429),
        answer(0.1),
    ]  # fmt: skip
    found = streamed(answers, first_s=1.0, gap_s=0.1)
    assert (found.n, found.in_slo, found.late, found.broke_gap, found.refused) == (8, 3 / 8, 2 / 8, 1 / 8, 2 / 8)
    assert found.first_p99_s == pytest.approx(1.5)
    assert found.gap_p99_s == pytest.approx(0.3)


def test_where_nobody_is_answered_nothing_has_a_time() -> None:
    assert streamed([Answer(0.0, 503)], 1.0, 0.1) == Streamed(1, 0.0, 1.0, 0.0, 0.0, None, None)
