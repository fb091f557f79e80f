"""What the original was asked is what a candidate is asked, and an answer that is none ends it."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from optimizer.checks.agreement import Agreement, Kind
from optimizer.ladder.answers import Broken, Case, compare_answers
from server.backends.base import BatchError
from server.contract.tensors import DataType, TensorSpec
from tests.server.intake.fakes import FakeSession

WANTED = np.array([[3.0, 1.0, 0.0], [0.0, 2.0, 1.0]], np.float32)


def session(answer: Any) -> FakeSession:
    spec = TensorSpec("y", DataType.FP32, ("n", 3))
    return FakeSession(lambda _: [answer], outputs=(spec,))


def case(wanted: Any = WANTED, kind: Kind = Kind.SAMPLE, edge: str = "") -> Case:
    return Case("2 rows", {"x": np.zeros((2, 4), np.float32)}, {"y": wanted}, kind=kind, edge=edge)


def test_answers_are_compared_row_by_row() -> None:
    found = compare_answers(session(np.array([[3.0, 1.0, 0.0], [0.0, 1.0, 2.0]], np.float32)), [case(), case(kind=Kind.BATCH)])
    assert isinstance(found, Agreement)
    (one,) = found.outputs
    assert (one.n_rows, found.n_samples, one.worst_at) == (4, 2, "2 rows")
    assert (one.cosine_mean, one.cosine_worst) == (pytest.approx(0.9), pytest.approx(0.8))
    assert one.same_top1 == 0.5


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (np.full((2, 3), np.nan, np.float32), "is not finite for 2 rows, where the original's is"),
        (WANTED[:1], r"is float32 \[1, 3\] for 2 rows, the original's is float32 \[2, 3\]"),
        (WANTED.astype(np.float64), "is float64"),
    ],
)
@pytest.mark.parametrize("edge", ["", "zeros"])
def test_what_is_no_answer(answer: Any, says: str, edge: str) -> None:
    found = compare_answers(session(answer), [case(edge=edge), case()])
    assert isinstance(found, Broken)
    assert re.search(says, found.reason)
    assert found.edge == edge


def test_a_failure() -> None:
    def refuse(_: Any) -> Any:
        raise BatchError("no")

    found = compare_answers(FakeSession(refuse), [Case("zeros in 1 row", {}, {}, edge="zeros")])
    assert found == Broken("fails on zeros in 1 row, where the original does not: no", "zeros")


def test_what_the_original_does_not_say_is_not_asked() -> None:
    nothing = np.array([[np.nan, 1.0, 0.0], [0.0, 2.0, 1.0]], np.float32)
    answer = np.array([[7.0, 1.0, 0.0], [0.0, 2.0, 1.0]], np.float32)
    found = compare_answers(session(answer), [case(answer), case(nothing, Kind.EDGE, "zeros")])
    assert isinstance(found, Agreement)
    assert [(one.place, one.cosine) for one in found.edges] == [("2 rows", pytest.approx(1.0))]
