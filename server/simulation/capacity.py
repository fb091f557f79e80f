"""How much load can be offered: the search for the highest rate that still keeps a condition."""

from __future__ import annotations

from collections.abc import Callable


def highest(keeps: Callable[[float], bool], low: float, high: float, precision: float = 0.005) -> float:
    """The highest load in [low, high] that keeps, by bisection; `low` when none does. `keeps` must fall once only."""
    while high - low > precision:
        middle = (low + high) / 2
        if keeps(middle):
            low = middle
        else:
            high = middle
    return low
