"""The classification extension: the best n of an output's numbers, as text, in place of all of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from server.backends.base import Array

UNRANKED = ("BOOL", "BYTES", "BF16")
"""Datatypes whose elements cannot be ranked: no order, or no NumPy type of their own."""


def classify(array: Array, n: int, labels: Sequence[str] = ()) -> Array:
    """[rows, …] → objects [rows, min(n, classes)] of bytes `value:index` or `value:index:label`, best first.

    All axes but the first count as one. Equal values keep their order; NaN comes last.
    """
    rows = len(array)
    flat = array.reshape(rows, -1)
    best = _descending(flat)[:, :n]
    chosen = np.empty(best.shape, dtype=np.object_)
    for row, places in enumerate(best.tolist()):
        values = flat[row, places]
        for column, (place, value) in enumerate(zip(places, values, strict=True)):
            label = f":{labels[place]}" if place < len(labels) else ""
            chosen[row, column] = f"{value!s}:{place}{label}".encode()  # str: a float32's own digits, not its float64's
    return chosen


def _descending(flat: Array) -> Array:
    """Indices per row by falling value; stable."""
    order: Array
    if flat.dtype.kind == "f":
        order = np.argsort(-flat, axis=1, kind="stable")
        return order
    backwards = np.argsort(flat[:, ::-1], axis=1, kind="stable")[:, ::-1]
    order = flat.shape[1] - 1 - backwards
    return order
