"""Scores over the wire: a batch is asked row by row."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import ModuleType

import numpy as np
import pytest

from loadtests.errors import MissingData
from loadtests.optimizers.task import row_by_row, task_score
from loadtests.tensors import Array


def doubled(row: Mapping[str, Array]) -> dict[str, Array]:
    assert len(row["x"]) == 1
    return {"y": row["x"] * 2}


def test_rows_keep_their_order() -> None:
    assert row_by_row({"x": np.arange(6).reshape(3, 2)}, doubled)["y"].tolist() == [[0, 2], [4, 6], [8, 10]]


def test_the_example_scores_what_the_server_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    example = ModuleType("examples.abacus.model")
    monkeypatch.setitem(sys.modules, "examples.abacus", ModuleType("examples.abacus"))
    monkeypatch.setitem(sys.modules, "examples.abacus.model", example)
    assert task_score("abacus", doubled) is None
    example.score = lambda predict: predict({"x": np.ones((4, 1))})["y"].mean()  # type: ignore[attr-defined]
    assert task_score("abacus", doubled) == 2.0


def test_what_the_example_needs_is_named() -> None:
    with pytest.raises(MissingData, match=r"the score of nobody needs examples\.nobody"):
        task_score("nobody", doubled)
