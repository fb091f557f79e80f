"""The edges of what a model may be asked: which inputs those are. No model is run and no file read here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from server.backends.base import Array


def value_edges(singles: Sequence[Mapping[str, Array]], base: Mapping[str, Array]) -> dict[str, dict[str, Array]]:
    """Name → inputs: the batch `base` with all zeros, and with the least and the greatest values that the samples have.

    Inputs that hold only zeros and ones (masks, segments) stay as they are: an empty mask asks nothing. So do texts.
    """
    numbers = [name for name, array in base.items() if array.dtype.kind == "f"]
    ids = [
        name for name, array in base.items() if array.dtype.kind in "iu" and not _is_mask(single[name] for single in singles)
    ]
    edges: dict[str, dict[str, Array]] = {}
    if numbers or ids:
        edges["zeros"] = _filled(base, {name: 0 for name in (*numbers, *ids)})
    for what, names in (("ids", ids), ("numbers", numbers)):
        for which, end in (("least", np.min), ("greatest", np.max)):
            if names:
                edges[f"{what} at their {which}"] = _filled(base, {name: _extreme(singles, name, end) for name in names})
    return edges


def size_edge(rows: int, length: int, most_rows: int, lengths: tuple[int, ...]) -> str:
    """What is extreme about a batch of that size; "" where nothing is. `lengths`: the possible ones in order, (0,) without any."""
    if lengths[0] == lengths[-1]:
        return "the largest batch" if 1 < rows == most_rows else ""
    if rows not in (1, most_rows) or length not in (lengths[0], lengths[-1]):
        return ""
    return "the shortest input" if length == lengths[0] else "the longest input"


def _is_mask(arrays: Iterable[Array]) -> bool:
    return all(bool(((array == 0) | (array == 1)).all()) for array in arrays)


def _extreme(singles: Sequence[Mapping[str, Array]], name: str, end: Callable[[Array], Any]) -> int | float:
    """The least or greatest finite value of an input over all samples."""
    values = np.concatenate([single[name].reshape(-1) for single in singles])
    if values.dtype.kind == "f":
        values = values[np.isfinite(values)]
    found: int | float = end(values).item() if len(values) else 0
    return found


def _filled(base: Mapping[str, Array], values: Mapping[str, int | float]) -> dict[str, Array]:
    return {name: np.full_like(array, values[name]) if name in values else array for name, array in base.items()}
