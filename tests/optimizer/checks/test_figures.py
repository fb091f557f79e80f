"""Figures of one answer against hand-reckoned ones, and what is left out of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from optimizer.checks.figures import Flaw, compare_answers, is_normalised, same_neighbour

NAN, INF = float("nan"), float("inf")


def row(*values: float) -> Any:
    return np.array([values], np.float32)


def test_the_same_answer_agrees_in_everything() -> None:
    found = compare_answers(row(1, 2, 3), row(1, 2, 3), 0)
    assert (found.flaw, found.absolute, found.relative, found.same_top1, found.top1, found.equal) == (None, 0, 0, 1, 2, 1)
    assert found.cosine == pytest.approx(1)
    assert found.kl == pytest.approx(0, abs=1e-12)


def test_errors_are_absolute_and_relative_to_the_largest_value() -> None:
    found = compare_answers(row(4, 0, 3), row(4, 1, 3), 0)
    assert found.absolute == 1
    assert found.relative == 0.25
    assert found.cosine == pytest.approx(25 / (5 * 26**0.5))
    assert found.equal == 0


def test_the_divergence_is_that_of_the_softmax() -> None:
    p, q = np.array([0.5, 0.5]), np.array([0.25, 0.75])
    wanted = float((p * np.log(p / q)).sum())
    assert compare_answers(np.log(p)[None] + 3, np.log(q)[None] - 5, 0).kl == pytest.approx(wanted)
    assert compare_answers(p[None], q[None], 0).kl == pytest.approx(wanted), "probabilities are taken as they are"


def test_classes_that_the_original_masks_do_not_count() -> None:
    found = compare_answers(row(1, 2, -INF), row(1, 2, 50), 0)
    assert (found.flaw, found.same_top1, found.absolute) == (None, 1, 0)
    assert found.kl == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_what_is_not_finite_is_a_flaw_and_keeps_its_class(value: float) -> None:
    found = compare_answers(row(1, 9, 2), row(1, value, 2), 0)
    assert (found.flaw, found.top1, found.cosine) == (Flaw.NOT_FINITE, 1, None)


@pytest.mark.parametrize("other", [row(1, 2), np.array([[1, 2, 3]]), row(1, 2, 3).astype(np.float16)])
def test_another_shape_or_type_is_a_flaw(other: Any) -> None:
    assert compare_answers(row(1, 2, 3), other, 0).flaw is Flaw.SHAPE


def test_the_same_greatest_class_is_asked_for_at_each_token() -> None:
    wanted = np.array([[[1, 0], [1, 0], [0, 1], [0, 1]]], np.float32)
    found = np.array([[[2, 0], [1, 5], [0, 1], [0, 1]]], np.float32)
    assert compare_answers(wanted, found, 4).same_top1 == 0.75
    assert compare_answers(wanted, found, 4).top1 is None
    for length in (0, 3):
        assert compare_answers(wanted, found, length).same_top1 is None, "its second axis is no token axis"


def test_of_equally_great_classes_any_is_right() -> None:
    assert compare_answers(row(3, 3, 1), row(1, 4, 2), 0).same_top1 == 1


def test_integers_and_texts_are_equal_or_not() -> None:
    found = compare_answers(np.array([[1, 7]]), np.array([[1, 4]]), 0)
    assert (found.equal, found.absolute, found.cosine, found.same_top1) == (0, 3, None, None)
    assert compare_answers(np.array([[True]]), np.array([[True]]), 0).equal == 1


def test_huge_and_empty_values_have_figures() -> None:
    huge = np.array([[1.7e308, -1.7e308]])
    found = compare_answers(huge, -huge, 0)
    assert found.cosine == pytest.approx(-1)
    assert found.absolute is not None
    assert np.isfinite([found.absolute, found.relative, found.kl]).all()
    assert compare_answers(row(0, 0), row(0, 0), 0).cosine == 1
    assert compare_answers(row(0, 0), row(0, 1), 0).cosine == 0


def test_one_number_has_no_cosine() -> None:
    assert compare_answers(row(2), row(-2), 0).cosine is None


def test_neighbours() -> None:
    wanted = np.array([[1, 0], [1, 0.1], [0, 1], [0.1, 1]], np.float32)
    found = np.array([[1, 0], [1, 0.1], [0, 1], [5, 1]], np.float32)
    assert same_neighbour(wanted, wanted * 7).tolist() == [True] * 4
    assert same_neighbour(wanted, found).tolist() == [True, False, True, False]


def test_of_equally_near_neighbours_any_is_right() -> None:
    wanted = np.array([[1, 0], [1, 1], [1, 1], [0, 0]], np.float32)
    found = np.array([[1, 0], [1, 1.2], [1, 0.9], [0, 0]], np.float32)
    assert same_neighbour(wanted, found)[0]


def test_vectors_of_length_1_are_told_from_probabilities() -> None:
    assert is_normalised(np.array([[0.6, -0.8], [0, 1]]))
    assert not is_normalised(np.array([[0.0, 1.0], [1.0, 0.0]])), "certain classes"
    assert not is_normalised(np.array([[3.0, 4.0]]))
