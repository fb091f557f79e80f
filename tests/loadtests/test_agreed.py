"""Agreement of two versions' answers, by figures that were worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from loadtests.agreed import agreement
from loadtests.errors import MalformedReply

ROWS = [{"y": np.array([row], np.float32)} for row in ([1.0, 0.0], [0.9, 0.1], [0.0, 1.0])]


def test_equal_answers_agree() -> None:
    found = agreement(ROWS, ROWS)
    assert (found.mean_cosine, found.worst_cosine, found.same_top, found.same_neighbour) == (1.0, 1.0, 1.0, 1.0)


def test_a_turned_row_is_seen_in_every_figure() -> None:
    turned = [{"y": np.array([[0.0, 1.0]], np.float32)}, *ROWS[1:]]
    found = agreement(ROWS, turned)
    assert found.worst_cosine == 0.0
    assert found.mean_cosine == pytest.approx(2 / 3)
    assert found.same_top == pytest.approx(2 / 3)
    assert found.same_neighbour == pytest.approx(1 / 3), "the first row is next to the third now, and the third to the first"


def test_a_scale_does_not_turn_anything() -> None:
    assert agreement(ROWS, [{"y": 3 * row["y"]} for row in ROWS]).mean_cosine == pytest.approx(1.0)


def test_the_output_that_agrees_least_counts() -> None:
    wanted = [{"a": np.ones((1, 2)), "b": np.array([[1.0, 0.0]])}]
    found = [{"a": np.ones((1, 2)), "b": np.array([[1.0, 1.0]])}]
    assert agreement(wanted, found).output == "b"
    assert agreement(wanted, found).mean_cosine == pytest.approx(math.sqrt(0.5))


def test_rows_of_different_lengths_have_no_neighbours() -> None:
    rows = [{"y": np.ones((1, n))} for n in (2, 3)]
    found = agreement(rows, rows)
    assert (found.mean_cosine, found.same_top, found.same_neighbour) == (1.0, None, None)


def test_other_shapes_are_no_answer() -> None:
    with pytest.raises(MalformedReply, match=r"row 1 was answered with .* where .* was expected"):
        agreement(ROWS[:2], [ROWS[0], {"z": ROWS[1]["y"]}])
