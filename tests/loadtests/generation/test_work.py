"""The work is the same for everybody, and its ceiling is what filling slots can gain at most."""

from __future__ import annotations

import pytest

from loadtests.generation.work import FIRST_PLAIN_ID, Work, draw


def test_work_follows_from_its_seed() -> None:
    assert draw(5, 8, 64, 256, 100, seed=1) == draw(5, 8, 64, 256, 100, seed=1)
    assert draw(5, 8, 64, 256, 100, seed=1) != draw(5, 8, 64, 256, 100, seed=2)


def test_prompts_hold_plain_tokens_and_answers_have_tokens_up_to_the_most() -> None:
    work = draw(500, 8, 64, 256, 100, seed=1)
    assert {len(prompt) for prompt in work.prompts} == {8}
    assert all(FIRST_PLAIN_ID <= token < 100 for prompt in work.prompts for token in prompt)
    assert min(work.new_tokens) >= 1
    assert max(work.new_tokens) == 256
    assert work.n_tokens / 500 == pytest.approx(64, rel=0.1)


def test_the_ceiling_counts_the_rows_that_static_batches_compute_in_vain() -> None:
    assert Work([[9]] * 4, [1, 3, 2, 2]).ceiling(2) == (2 * 3 + 2 * 2) / 8
    assert Work([[9]] * 4, [5, 5, 5, 5]).ceiling(2) == 1
