"""Agreement with the original, and answers that are none."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from optimizer.ladder.answers import Agreement, Case, compare_answers
from server.backends.base import BatchError
from server.contract.tensors import DataType, TensorSpec
from tests.server.intake.fakes import FakeSession

WANTED = np.array([[3.0, 1.0, 0.0], [0.0, 2.0, 1.0]], np.float32)


def session(answer: Any) -> FakeSession:
    spec = TensorSpec("y", DataType.FP32, ("n", 3))
    return FakeSession(lambda _: [answer], outputs=(spec,))


def case(wanted: Any = WANTED, is_edge: bool = False) -> Case:
    return Case("2 rows", {"x": np.zeros((2, 4), np.float32)}, {"y": wanted}, is_edge)


def test_equal_answers() -> None:
    found = compare_answers(session(WANTED), [case(), case()])
    (one,) = found.outputs
    assert (one.n_rows, one.mean_cosine, one.worst_cosine, one.largest_error, one.kl, one.top1) == (4, 1.0, 1.0, 0.0, 0.0, 1.0)
    assert Agreement.from_json(found.to_json()) == found
    assert "agreement with the original, not accuracy" in found.sentence()


def test_wrong_answers_are_measured() -> None:
    (one,) = compare_answers(session(np.array([[3.0, 1.0, 0.0], [0.0, 1.0, 2.0]], np.float32)), [case()]).outputs
    assert one.worst_cosine == pytest.approx(0.8)
    assert one.mean_cosine == pytest.approx(0.9)
    assert one.worst_at == "2 rows"
    assert one.largest_error == 1.0
    assert one.top1 == 0.5
    softmax = np.exp([0.0, 2.0, 1.0]) / np.exp([0.0, 2.0, 1.0]).sum()
    assert one.kl == pytest.approx((softmax[1] - softmax[2]) / 2)


def test_a_row_of_one_value_is_as_alike_as_its_error_is_small() -> None:
    wanted = np.array([[1.0], [-1.0]], np.float32)
    (one,) = compare_answers(session(wanted + np.float32(0.1)), [case(wanted)]).outputs
    assert one.worst_cosine == pytest.approx(1 - 0.1**2 / 2, abs=1e-6)
    assert one.top1 is None


def test_integers_are_alike_where_they_are_equal() -> None:
    (one,) = compare_answers(session(np.array([[1, 2, 3], [4, 5, 0]])), [case(np.array([[1, 2, 3], [4, 5, 6]]))]).outputs
    assert (one.mean_cosine, one.worst_cosine) == (pytest.approx(5 / 6), pytest.approx(2 / 3))


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (np.full((2, 3), np.nan, np.float32), "is not finite for 2 rows, where the original's is"),
        (WANTED[:1], r"is float32 \[1, 3\] for 2 rows, the original's is float32 \[2, 3\]"),
        (WANTED.astype(np.float64), "is float64"),
    ],
)
@pytest.mark.parametrize("is_edge", [False, True])
def test_what_is_no_answer(answer: Any, says: str, is_edge: bool) -> None:
    found = compare_answers(session(answer), [case(is_edge=is_edge)])
    assert found.broken is not None
    assert re.search(says, found.broken)


def test_what_is_only_larger_has_the_same_cosine_and_another_size() -> None:
    (one,) = compare_answers(session(2 * WANTED), [case()]).outputs
    assert (one.worst_cosine, one.size) == (pytest.approx(1.0), pytest.approx(2.0))


def test_a_failure() -> None:
    def refuse(_: Any) -> Any:
        raise BatchError("no")

    found = compare_answers(FakeSession(refuse), [Case("zeros", {}, {})])
    assert found.broken == "fails on zeros, where the original does not: no"


def test_what_the_original_does_not_say_is_not_asked() -> None:
    nothing = np.array([[np.nan, 1.0, 0.0], [0.0, 2.0, 1.0]], np.float32)
    found = compare_answers(session(np.full((2, 3), 7, np.float32)), [case(nothing, is_edge=True)])
    assert (found.broken, found.outputs) == (None, ())
