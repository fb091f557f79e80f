"""A version's measured latency at one placement: (rows, length) → time. Its file: profiles.py. Measuring lives in server.intake."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from server.contract.device import Device
from server.contract.errors import ContractError
from server.contract.fields import Fields
from server.contract.text import TextCost

FAR = 1024
"""Extrapolation ends at so many times the largest measured rows and length."""


@dataclass(frozen=True, slots=True)
class Placement:
    """How a version uses the machine: `instances` batches at a time, `threads` threads each."""

    instances: int
    threads: int

    def __str__(self) -> str:
        return f"{self.instances}x{self.threads}"

    @property
    def cores(self) -> int:
        """How many cores it keeps busy."""
        return self.instances * self.threads


@dataclass(frozen=True, slots=True)
class Cell:
    """Time of one batch of `rows` rows padded to `length` (0 where the model has no ragged axis), in seconds,
    while all instances of the placement were busy. `samples`: 0 where it was reckoned from other cells, because measuring it would
    have made requests late. `memory_bytes`: resident growth of the process by then, once the model was loaded; on a card, what was taken of
    its memory by then, with the model (0: not measured)."""

    rows: int
    length: int
    p50_s: float
    p95_s: float
    p99_s: float
    samples: int
    memory_bytes: int

    @staticmethod
    def from_json(fields: Fields) -> Cell:
        fields.only(Cell.__slots__)
        p50, p95, p99 = (fields.number(name) for name in ("p50_s", "p95_s", "p99_s"))
        if not 0 < p50 <= p95 <= p99:
            raise fields.wrong("p50_s", f"must be positive and p50 <= p95 <= p99, found {p50}, {p95}, {p99}")
        return Cell(
            fields.integer("rows", 1), fields.integer("length"), p50, p95, p99,
            fields.integer("samples"), fields.integer("memory_bytes"),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Profile:
    """The full grid of cells for one placement on one device.

    `predict` interpolates linearly between cells, extrapolates by the last slope (up to FAR times the grid), and never
    falls when rows or length grow. Raises ContractError when the grid has holes. `text`: the tokeniser's own stage, where the
    version takes text.
    """

    device: Device
    placement: Placement
    cells: tuple[Cell, ...]
    text: TextCost | None = None
    _rows: tuple[int, ...] = field(init=False, repr=False, compare=False)
    _lengths: tuple[int, ...] = field(init=False, repr=False, compare=False)
    _p50: tuple[tuple[float, ...], ...] = field(init=False, repr=False, compare=False)
    _p99: tuple[tuple[float, ...], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        rows = tuple(sorted({cell.rows for cell in self.cells}))
        lengths = tuple(sorted({cell.length for cell in self.cells}))
        by_place = {(cell.rows, cell.length): cell for cell in self.cells}
        if not self.cells or len(self.cells) != len(by_place) or len(by_place) != len(rows) * len(lengths):
            raise ContractError("cells must form a full grid of rows x length, each cell once; measure again")
        grid = [[by_place[r, n] for n in lengths] for r in rows]
        object.__setattr__(self, "_rows", rows)
        object.__setattr__(self, "_lengths", lengths)
        object.__setattr__(self, "_p50", _surface(rows, lengths, [[cell.p50_s for cell in line] for line in grid]))
        object.__setattr__(self, "_p99", _surface(rows, lengths, [[cell.p99_s for cell in line] for line in grid]))

    def predict(self, rows: int, length: float = 0) -> float:
        """Median seconds for a batch of `rows` rows padded to `length`."""
        return _interpolate(self._rows, self._lengths, self._p50, rows, length)

    def predict_p99(self, rows: int, length: int = 0) -> float:
        """99th percentile of the same, in seconds."""
        return _interpolate(self._rows, self._lengths, self._p99, rows, length)

    @property
    def measured_rows(self) -> tuple[int, ...]:
        """The row counts of the grid, ascending."""
        return self._rows

    @property
    def measured_lengths(self) -> tuple[int, ...]:
        """The lengths of the grid, ascending; (0,) where the model has no ragged axis."""
        return self._lengths

    def peak_rate(self, length: int = 0) -> float:
        """Highest measured rows per second at `length`, all instances together."""
        return self.placement.instances * max(rows / self.predict(rows, length) for rows in self._rows)


def _surface(rows: Sequence[int], lengths: Sequence[int], grid: Sequence[Sequence[float]]) -> tuple[tuple[float, ...], ...]:
    """The grid plus one far line along each axis, monotone: interpolation in it is monotone too, past the grid as well."""
    measured = _monotone(grid)
    far_rows = tuple(_far(rows, column) for column in zip(*measured, strict=True))
    return _monotone([[*line, _far(lengths, line)] for line in (*measured, far_rows)])


def _far(marks: Sequence[int], values: Sequence[float]) -> float:
    """The value at FAR times the last mark, by the last slope; without a slope it stays."""
    if len(marks) == 1:
        return values[0]
    slope = (values[-1] - values[-2]) / (marks[-1] - marks[-2])
    return values[-1] + slope * marks[-1] * (FAR - 1)


def _monotone(grid: Sequence[Sequence[float]]) -> tuple[tuple[float, ...], ...]:
    """Running maximum along both axes: noise must never make a larger batch look cheaper."""
    lines: list[tuple[float, ...]] = []
    for line in grid:
        above = lines[-1] if lines else (0.0,) * len(line)
        lines.append(tuple(max(pair) for pair in zip(accumulate(line, max), above, strict=True)))
    return tuple(lines)


def _interpolate(
    rows: Sequence[int], lengths: Sequence[int], grid: Sequence[Sequence[float]], at_rows: int, at_length: float
) -> float:
    low, share = _place(rows, at_rows)
    below = _along(lengths, grid[low], at_length)
    return below if share == 0.0 else below + (_along(lengths, grid[low + 1], at_length) - below) * share


def _along(marks: Sequence[int], values: Sequence[float], at: float) -> float:
    low, share = _place(marks, at)
    return values[low] if share == 0.0 else values[low] + (values[low + 1] - values[low]) * share


def _place(marks: Sequence[int], at: float) -> tuple[int, float]:
    """Index of the mark at or below `at` and how far on to the next one, in shares of 1 (that of the last mark is the far
    line). Below the first mark the first value stands, because a small batch is bounded by its fixed cost."""
    if at <= marks[0] or len(marks) == 1:
        return 0, 0.0
    low = bisect_right(marks, at) - 1
    far = marks[low + 1] if low + 1 < len(marks) else marks[-1] * FAR
    return low, min((at - marks[low]) / (far - marks[low]), 1.0)
