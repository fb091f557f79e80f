"""Figures of one answer against hand-reckoned ones, and what is left out of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from optimizer.checks.figures import Flaw, compare_classes, compare_row, is_normalised, same_neighbour, usual_size

NAN, INF = float("nan"), float("inf")


def row(*values: float) -> Any:
    return np.array([values], np.float32)


def test_the_same_answer_agrees_in_everything() -> None:
    found, classes = compare_row(row(1, 2, 3), row(1, 2, 3), 2.0), compare_classes(row(1, 2, 3), row(1, 2, 3), 0)
    assert (found.flaw, found.noise, found.absolute, found.relative) == (None, 0, 0, 0)
    assert found.cosine == pytest.approx(1)
    assert (classes.same_top1, classes.top1) == (1, 2)
    assert classes.kl == pytest.approx(0, abs=1e-12)


def test_errors_are_absolute_and_relative_to_the_largest_value() -> None:
    found = compare_row(row(4, 0, 3), row(4, 1, 3), 3.0)
    assert (found.absolute, found.relative) == (1, 0.25)
    assert found.cosine == pytest.approx(25 / (5 * 26**0.5))
    assert found.noise == pytest.approx(1 / 25)


def test_the_divergence_is_that_of_the_softmax() -> None:
    p, q = np.array([0.5, 0.5]), np.array([0.25, 0.75])
    wanted = float((p * np.log(p / q)).sum())
    assert compare_classes(np.log(p)[None] + 3, np.log(q)[None] - 5, 0).kl == pytest.approx(wanted)
    assert compare_classes(p[None], q[None], 0).kl == pytest.approx(wanted), "probabilities are taken as they are"


def test_classes_that_the_original_masks_do_not_count() -> None:
    wanted, answer = row(1, 2, -INF), row(1, 2, 50)
    found, classes = compare_row(wanted, answer, 2.0), compare_classes(wanted, answer, 0)
    assert (found.flaw, found.absolute, classes.same_top1) == (None, 0, 1)
    assert classes.kl == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_what_is_not_finite_is_a_flaw_and_keeps_its_class(value: float) -> None:
    wanted, answer = row(1, 9, 2), row(1, value, 2)
    found, classes = compare_row(wanted, answer, 5.0), compare_classes(wanted, answer, 0)
    assert (found.flaw, found.cosine, found.noise, classes.same_top1, classes.top1) == (Flaw.NOT_FINITE, 0, 1, None, 1)


@pytest.mark.parametrize("other", [row(1, 2), np.array([[1, 2, 3]]), row(1, 2, 3).astype(np.float16)])
def test_another_shape_or_type_is_a_flaw(other: Any) -> None:
    assert compare_row(row(1, 2, 3), other, 2.0).flaw is Flaw.SHAPE
    assert compare_classes(row(1, 2, 3), other, 0).kl is None


def test_the_same_greatest_class_is_asked_for_at_each_token() -> None:
    wanted = np.array([[[1, 0], [1, 0], [0, 1], [0, 1]]], np.float32)
    found = np.array([[[2, 0], [1, 5], [0, 1], [0, 1]]], np.float32)
    assert compare_classes(wanted, found, 4).same_top1 == 0.75
    assert compare_classes(wanted, found, 4).top1 is None
    for length in (0, 3):
        assert compare_classes(wanted, found, length).same_top1 is None, "its second axis is no token axis"


def test_of_equally_great_classes_any_is_right() -> None:
    assert compare_classes(row(3, 3, 1), row(1, 4, 2), 0).same_top1 == 1


def test_what_is_no_float_is_as_alike_as_many_elements_are_equal() -> None:
    found = compare_row(np.array([[1, 7]]), np.array([[1, 4]]), 5.0)
    assert (found.cosine, found.noise, found.absolute, found.relative) == (0.5, 0.5, 3, None)
    assert compare_row(np.array([[True]]), np.array([[True]]), 0.0).cosine == 1
    texts = np.array([[b"a", b"b"]], dtype=object)
    assert compare_row(texts, np.array([[b"a", b"c"]], dtype=object), 0.0).cosine == 0.5
    assert compare_classes(np.array([[1, 7]]), np.array([[1, 4]]), 0).same_top1 is None


def test_huge_and_empty_values_have_figures() -> None:
    huge = np.array([[1.7e308, -1.7e308]])
    found, classes = compare_row(huge, -huge, usual_size([huge])), compare_classes(huge, -huge, 0)
    assert found.cosine == pytest.approx(-1)
    assert found.absolute is not None
    assert np.isfinite([found.absolute, found.relative, found.noise, classes.kl]).all()
    assert compare_row(row(0, 0), row(0, 0), 0.0).cosine == 1
    assert compare_row(row(0, 0), row(0, 1), 0.0).cosine == 0


def test_a_row_without_direction_is_as_alike_as_its_error_is_small() -> None:
    one = compare_row(row(2), row(2.3), 3.0)
    assert one.cosine == pytest.approx(1 - 0.1**2 / 2)
    assert one.noise == pytest.approx(0.1**2)
    assert one.relative == pytest.approx(0.1)
    assert compare_row(row(2), row(-2), 2.0).cosine == -1, "the cosine of a long vector of the other sign"
    nothing = compare_row(row(1e-9, -1e-9), row(-1e-9, 1e-9), 1.0)
    assert nothing.cosine == pytest.approx(1), "what is next to nothing in both is alike, wherever it points"
    assert compare_row(row(0, 0), row(1, 1), 1.0).cosine == 0.5


def test_the_usual_size_is_that_of_all_finite_numbers() -> None:
    assert usual_size([row(3, NAN), row(4)]) == pytest.approx(12.5**0.5)
    assert usual_size([np.array([[b"a"]], dtype=object)]) == 0


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
