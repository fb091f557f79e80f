"""How well the answers of two versions of a model agree, where nobody says which is right. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from loadtests.errors import MalformedReply
from loadtests.tensors import Array


@dataclass(frozen=True, slots=True)
class Agreement:
    """Over all rows, of the output that agrees least: cosines of the answers as one long vector each. `same_top`: share of rows whose
    largest value is the same one, `same_neighbour`: share whose nearest other row (by cosine) is; None where rows differ in shape."""

    output: str
    mean_cosine: float
    worst_cosine: float
    same_top: float | None
    same_neighbour: float | None


def agreement(wanted: Sequence[Mapping[str, Array]], found: Sequence[Mapping[str, Array]]) -> Agreement:
    """`wanted` and `found`: by row, output name → array [1, …] of numbers. Raises MalformedReply for other outputs or shapes."""
    for row, (one, other) in enumerate(zip(wanted, found, strict=True)):
        shapes = [{name: array.shape for name, array in outputs.items()} for outputs in (one, other)]
        if shapes[0] != shapes[1]:
            raise MalformedReply(f"row {row} was answered with {shapes[1]} where {shapes[0]} was expected")
    each = [_of_output(name, [row[name] for row in wanted], [row[name] for row in found]) for name in wanted[0]]
    return min(each, key=lambda one: one.mean_cosine)


def _of_output(name: str, wanted: Sequence[Array], found: Sequence[Array]) -> Agreement:
    cosines = [_cosine(one.ravel(), other.ravel()) for one, other in zip(wanted, found, strict=True)]
    top = neighbour = None
    if len({one.shape for one in wanted}) == 1:
        before, after = (np.stack([one.ravel().astype(np.float64) for one in rows]) for rows in (wanted, found))
        top = float(np.mean(before.argmax(axis=1) == after.argmax(axis=1)))
        neighbour = float(np.mean(_nearest(before) == _nearest(after))) if len(before) > 2 else None
    return Agreement(name, float(np.mean(cosines)), float(np.min(cosines)), top, neighbour)


def _cosine(one: Array, other: Array) -> float:
    a, b = one.astype(np.float64), other.astype(np.float64)
    if np.array_equal(a, b):
        return 1.0
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / size if size else 0.0


def _nearest(rows: Array) -> Array:
    """For each row of [n, width], the index of the other row with the greatest cosine."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    near = (rows / np.maximum(lengths, 1e-30)) @ (rows / np.maximum(lengths, 1e-30)).T
    np.fill_diagonal(near, -np.inf)
    nearest: Array = near.argmax(axis=1)
    return nearest
