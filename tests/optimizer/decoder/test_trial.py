"""The gates of a decoder's candidates."""

from __future__ import annotations

from dataclasses import replace

import pytest

from optimizer.decoder.likeness import Likeness
from optimizer.decoder.trial import PLAIN, SMALLER, Gates, judge_answers, judge_company
from optimizer.ladder.gates import Gate

GOOD = Likeness(n_tokens=100, kl=1e-6, worst_kl=1e-5, top1=1.0, perplexity=10.0, original=10.0, error=1e-4)
INT8 = SMALLER[0]


def test_what_predicts_the_same_passes() -> None:
    assert judge_answers(PLAIN, GOOD, Gates(0.0)) is None
    assert judge_answers(INT8, GOOD, Gates(0.0)) is None
    assert judge_company(0.0) is None


def test_the_plain_export_must_be_the_original_itself() -> None:
    failed = judge_answers(PLAIN, replace(GOOD, kl=0.01), Gates(100.0))
    assert failed is not None
    assert (failed.gate, failed.reason) == (
        Gate.ANSWERS,
        "KL divergence from the original 0.01 nats, of an export at most 0.001",
    )
    assert judge_answers(INT8, replace(GOOD, kl=0.01), Gates(100.0)) is None


@pytest.mark.parametrize(("perplexity", "passes"), [(9.0, True), (10.29, True), (10.31, False)])
def test_perplexity_may_rise_by_what_is_allowed(perplexity: float, passes: bool) -> None:
    failed = judge_answers(INT8, replace(GOOD, perplexity=perplexity), Gates(3.0))
    assert (failed is None) is passes
    if failed is not None:
        assert failed.gate is Gate.SCORE
        assert failed.reason == "perplexity 10.310, the original's 10.000: 3.1 % more, allowed are 3 %"


def test_another_model_is_refused_whatever_its_perplexity() -> None:
    failed = judge_answers(INT8, replace(GOOD, top1=0.8, perplexity=1.0), Gates(1000.0))
    assert failed is not None
    assert (failed.gate, failed.reason) == (Gate.ANSWERS, "the same likeliest token in 80.0% of places, wanted are 85%")


def test_how_much_of_its_likeliest_tokens_it_must_keep_is_for_its_owner_to_say() -> None:
    assert judge_answers(INT8, replace(GOOD, top1=0.8), Gates(min_top1=0.75)) is None


def test_not_a_bit_may_depend_on_company() -> None:
    failed = judge_company(1e-9)
    assert failed is not None
    assert failed.gate is Gate.PROFILE
    assert failed.reason == "rows influence each other: a logit differs by 1e-09 alone and in company"
