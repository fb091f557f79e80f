"""For which shapes an engine is built: optimization profiles by rows and length. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from server.contract.manifest import Ragged
from server.contract.tensors import TensorSpec
from server.intake.measure import grid_lengths

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Bounds:
    """One optimization profile: least and greatest shape of each input, and the one for which the quickest kernels are chosen."""

    least: Mapping[str, Shape]
    best: Mapping[str, Shape]
    most: Mapping[str, Shape]


@dataclass(frozen=True, slots=True)
class _Span:
    least: int
    best: int
    most: int


def bounds_of(inputs: Sequence[TensorSpec], ragged: Ragged | None, max_rows: int, knee: int) -> tuple[Bounds, ...]:
    """One profile for single rows and one for batches, each for every span between two lengths that a latency profile measures.
    Batches are tuned for `knee` rows, those beyond which the rate hardly grows; lengths for the longest of their span, to which
    shorter ones are padded."""
    rows = [_Span(1, 1, 1)]
    if max_rows > 1:
        rows.append(_Span(2, min(max(knee, 2), max_rows), max_rows))
    return tuple(_bounds(inputs, ragged, row_span, length) for length in _lengths(ragged) for row_span in rows)


def _lengths(ragged: Ragged | None) -> list[_Span]:
    if ragged is None:
        return [_Span(0, 0, 0)]
    ends = grid_lengths(ragged.shortest, ragged.longest)
    begins = [ragged.shortest, *(end + 1 for end in ends[:-1])]
    spans = [_Span(begin, end, end) for begin, end in zip(begins, ends, strict=True)]
    return [span for span in spans if span.least <= span.most]


def _bounds(inputs: Sequence[TensorSpec], ragged: Ragged | None, rows: _Span, length: _Span) -> Bounds:
    def shapes(n_rows: int, n_long: int) -> dict[str, Shape]:
        return {spec.name: _shape(spec, n_rows, n_long) for spec in inputs}

    return Bounds(shapes(rows.least, length.least), shapes(rows.best, length.best), shapes(rows.most, length.most))


def _shape(spec: TensorSpec, rows: int, length: int) -> Shape:
    """The batch axis is the first one; where the file fixes it, it is 1."""
    first = spec.shape[0]
    return (first if isinstance(first, int) else rows, *(length if isinstance(dim, str) else dim for dim in spec.shape[1:]))
