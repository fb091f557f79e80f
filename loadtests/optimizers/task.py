"""An example's own score of its task, asked over the wire: `score(predict)` of examples/<model>/model.py, where it has one."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping

import numpy as np

from loadtests.errors import MissingData
from loadtests.tensors import Array

Ask = Callable[[Mapping[str, Array]], Mapping[str, Array]]
"""One row's inputs [1, …] → its outputs [1, …]."""


def task_score(model: str, ask: Ask) -> float | None:
    """The score of the example `model` when every row is answered by `ask`; None where it has none.

    Raises MissingData if what the example needs is not installed.
    """
    try:
        example = importlib.import_module(f"examples.{model}.model")
    except ModuleNotFoundError as error:
        raise MissingData(f"the score of {model} needs {error.name}: make bench-optimizers installs it") from error
    score = getattr(example, "score", None)
    return None if score is None else float(score(lambda batch: row_by_row(batch, ask)))


def row_by_row(batch: Mapping[str, Array], ask: Ask) -> dict[str, Array]:
    """The answers [n, …] to a batch [n, …], asked one row at a time."""
    n_rows = len(next(iter(batch.values())))
    each = [ask({name: array[at : at + 1] for name, array in batch.items()}) for at in range(n_rows)]
    return {name: np.concatenate([one[name] for one in each]) for name in each[0]}
