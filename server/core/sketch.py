"""What batches take where no profile says so: a law drawn from the batches that have run. Nothing is made up."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import NamedTuple

_LAWS = ((0,), (0, 1), (0, 2), (0, 1, 2), (0, 2, 3), (0, 1, 2, 3), (1,), (2,), (1, 2), (2, 3))
"""Which of the features 1, rows, rows × length and rows × length² have a cost of their own; the simplest first."""

BETTER = 0.99
"""A law with more costs must fit so much better than one with fewer."""

REDRAW = 1.5
"""The law is drawn anew when so many times as many batches have run as last time, or one had twice the rows of all before."""

Z99, MOST_SPREAD = 2.33, 0.5
"""The 99th percentile by the relative spread around the law, which counts up to this."""


class Drawn(NamedTuple):
    """seconds = a + rows · (b + c · length + d · length²) for `costs` (a, b, c, d), none of them below zero.

    Past what had run when it was drawn the law goes on; below it, of less than `least` rows and length, costs shrink in proportion, which is the
    least that they can. `spread`: of batches around the law, relative. Satisfies costs.Law.
    """

    longest: int
    least: tuple[int, int] = (1, 0)
    costs: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    spread: float = 0.0

    @property
    def measured_lengths(self) -> tuple[int, ...]:
        return (self.longest,)

    def predict(self, rows: int, length: int = 0) -> float:
        """Seconds for a batch of `rows` rows padded to `length`."""
        least_rows, least_length = self.least
        share = min(1.0, rows / least_rows) * (min(1.0, max(1, length) / least_length) if least_length else 1.0)
        a, b, c, d = self.costs
        rows, length = max(rows, least_rows), max(length, least_length)
        return share * (a + rows * (b + length * (c + d * length)))

    def predict_p99(self, rows: int, length: int = 0) -> float:
        """99th percentile of the same, in seconds."""
        return self.predict(rows, length) * (1 + Z99 * self.spread)


class Sketch:
    """Draws laws from batches by least squares of the relative errors. Before the first batch everything costs nothing."""

    def __init__(self, longest: int) -> None:
        self.law = Drawn(longest)
        self._n = self._n_drawn = 0
        self._most_drawn = 0
        self._least = (1 << 62, 1 << 62)
        self._most_rows = 0
        self._squares = [[0.0] * 4 for _ in range(4)]
        self._products = [0.0] * 4

    def __repr__(self) -> str:
        a, b, c, d = self.law.costs
        return f"<{a:.3g} + rows·({b:.3g} + {c:.3g} length + {d:.3g} length²), from {self._n} batches>"

    def learn(self, rows: int, length: int, took_s: float) -> bool:
        """Add a batch. True when the law was drawn anew."""
        features = (1.0, float(rows), float(rows * length), float(rows * length * length))
        weight = 1 / (took_s * took_s)
        for i, one in enumerate(features):
            self._products[i] += weight * one * took_s
            for j, other in enumerate(features):
                self._squares[i][j] += weight * one * other
        self._n += 1
        self._least = (min(self._least[0], rows), min(self._least[1], length))
        self._most_rows = max(self._most_rows, rows)
        if self._n < REDRAW * self._n_drawn and self._most_rows < 2 * self._most_drawn:
            return False
        self._draw()
        return True

    def _draw(self) -> None:
        self._n_drawn, self._most_drawn = self._n, self._most_rows
        best, drawn = float("inf"), self.law.costs
        for law in _LAWS:
            found = _solved([[self._squares[i][j] for j in law] for i in law], [self._products[i] for i in law])
            if found is None or min(found) < 0:
                continue
            explained = sum([cost * self._products[i] for i, cost in zip(law, found, strict=True)])
            error = max(0.0, self._n - explained)  # the sum of the squares of relative errors
            if error < BETTER * best:
                best = error
                costs = dict(zip(law, found, strict=True))
                drawn = (costs.get(0, 0.0), costs.get(1, 0.0), costs.get(2, 0.0), costs.get(3, 0.0))
        self.law = Drawn(self.law.longest, self._least, drawn, min(MOST_SPREAD, sqrt(best / self._n)))


def _solved(matrix: list[list[float]], right: Sequence[float]) -> list[float] | None:
    """x of matrix · x = right, for a matrix that is symmetric and not negative; None when it does not tell what x is."""
    size = len(right)
    lines = [[*line, value] for line, value in zip(matrix, right, strict=True)]
    for i in range(size):
        if lines[i][i] <= 1e-9 * matrix[i][i]:
            return None
        for j in range(i + 1, size):
            share = lines[j][i] / lines[i][i]
            lines[j] = [value - share * other for value, other in zip(lines[j], lines[i], strict=True)]
    found = [0.0] * size
    for i in reversed(range(size)):
        found[i] = (lines[i][size] - sum([lines[i][j] * found[j] for j in range(i + 1, size)])) / lines[i][i]
    return found
