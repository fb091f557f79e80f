"""The edges of what a model may be asked: which inputs those are, and whether a candidate answers them as the original did.

No model is run and no file read here (see recorded).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from optimizer.checks.figures import compare_answers
from server.backends.base import Array

LEAST_COSINE = 0.9
"""What a candidate must keep at an edge. Such inputs are rare and unlike those it was calibrated with, so this asks only that the
answer is not another one altogether; how well it does on real inputs is for agreement to say."""


@dataclass(frozen=True, slots=True)
class Edge:
    """What a candidate made of one edge. `cosine`: its worst row and output; None where no output has one. `fault`: why the answer
    is wrong whatever its numbers are; None: it is not."""

    name: str
    rows: int
    length: int
    cosine: float | None = None
    fault: str | None = None

    @property
    def place(self) -> str:
        """In words."""
        length = f" of length {self.length}" if self.length else ""
        return f"{self.name}, {self.rows} row{'s' * (self.rows > 1)}{length}"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


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


def judge_edge(
    name: str, length: int, wanted: Mapping[str, Array], answer: Callable[[], Mapping[str, Array]], failures: type[Exception]
) -> Edge:
    """Asks for the answer and compares it with the one that was wanted, row by row; one of `failures` is a fault."""
    rows = len(next(iter(wanted.values())))
    try:
        found = answer()
    except failures as error:
        return Edge(name, rows, length, fault=f"the candidate fails, where PyTorch does not: {error}")
    cosines: list[float] = []
    for output, array in wanted.items():
        if output not in found:
            return Edge(name, rows, length, fault=f"there is no output {output!r}")
        if found[output].shape != array.shape:
            return Edge(
                name, rows, length, fault=f"output {output!r} has shape {list(found[output].shape)}, not {list(array.shape)}"
            )
        for row in range(rows):
            one = compare_answers(array[row : row + 1], found[output][row : row + 1], length)
            if one.flaw is not None:
                return Edge(name, rows, length, fault=f"output {output!r} {one.flaw.value}")
            cosines += [] if one.cosine is None else [one.cosine]
    return Edge(name, rows, length, min(cosines, default=None))


def fails_at(edges: Sequence[Edge], least_cosine: float = LEAST_COSINE) -> str | None:
    """The gate: why the candidate is rejected, with the edge; None: it passes."""
    for one in edges:
        if one.fault is not None:
            return f"{one.place}: {one.fault}"
        if one.cosine is not None and one.cosine < least_cosine:
            return f"{one.place}: cosine {one.cosine:.4g} to the original's answer, at least {least_cosine:g} was asked for"
    return None


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
