"""Claims against measured figures: which hold, which miss, and by how much. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

from loadtests.report import markdown, table

_HEADER = ("claim", "found", "bound", "")


class Side(Enum):
    """On which side of its bound a figure must be; `value` is for people."""

    AT_LEAST = ">="
    AT_MOST = "<="


@dataclass(frozen=True, slots=True)
class Verdict:
    """One claim. `found` is None when there was nothing to measure it by, which is a miss.

    `void`: what was found proves nothing, as the load was not the one that was meant; then the claim does not hold either.
    """

    figure: str
    found: float | None
    side: Side
    bound: float
    void: bool = False

    @property
    def holds(self) -> bool:
        if self.found is None or self.void:
            return False
        return self.found >= self.bound if self.side is Side.AT_LEAST else self.found <= self.bound

    @property
    def told(self) -> str:
        """In a word, and a miss with how far the figure is from its bound, relative to that."""
        if self.void:
            return "VOID"
        if self.holds:
            return "holds"
        if self.found is None or not math.isfinite(self.found):
            return "MISSES: not reached"
        away = abs(self.found - self.bound) / self.bound if self.bound else abs(self.found)
        return f"MISSES by {away:.1%}"


@dataclass(frozen=True, slots=True)
class Round:
    """What one round found for a claim, and whether its load was the one that was meant."""

    found: float | None
    valid: bool = True


def over_rounds(figure: str, rounds: Sequence[Round], side: Side, bound: float) -> Verdict:
    """By the median of the valid rounds. With fewer than half of them valid it is void, and tells the median of all."""
    valid = [one for one in rounds if one.valid]
    void = 2 * len(valid) < len(rounds)
    known = [one.found for one in (rounds if void else valid) if one.found is not None]
    return Verdict(figure, statistics.median(known) if known else None, side, bound, void)


def verdict_table(verdicts: Sequence[Verdict]) -> str:
    """All verdicts for a terminal."""
    return table(_HEADER, [_cells(one) for one in verdicts])


def verdict_lines(verdicts: Sequence[Verdict]) -> list[str]:
    """The same as a Markdown table."""
    return markdown(_HEADER, [_cells(one) for one in verdicts])


def _cells(one: Verdict) -> tuple[str, str, str, str]:
    found = "-" if one.found is None else f"{one.found:.3g}"
    return one.figure, found, f"{one.side.value} {one.bound:g}", one.told


def verdict_values(verdicts: Sequence[Verdict]) -> list[dict[str, Any]]:
    """All verdicts as values for JSON."""
    return [{**asdict(one), "side": one.side.value, "holds": one.holds} for one in verdicts]


def verdicts_of(content: Mapping[str, Any]) -> list[Verdict]:
    """Those in a result's content: what was claimed and found when it was measured."""
    return [
        Verdict(one["figure"], one["found"], Side(one["side"]), one["bound"], one.get("void", False))
        for one in content["verdicts"]
    ]
