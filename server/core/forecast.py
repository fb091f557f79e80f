"""What a batch will take here and now: the profile, corrected by what batches have really taken."""

from __future__ import annotations

from server.core.costs import CostTable, targets
from server.core.pace import DRIFT_RATE, N_SETTLED, RATE, RATIO_LIMITS, Pace, clamped

SHAPE_RATES = (0.05, 1.0)
SHAPE_MEMORY = 128
"""The same for one batch size against the others: low, because that does not change with the device's mood; the higher,
the longer that size was not measured, up to so many batches."""

SHAPE_LIMITS = (0.33, 3.0)

SHAPE_CHANGE = 0.03
"""How far the shape must have moved for the targets to be found anew, with the shape as it is then: whenever they are asked
for first, they are the same."""

LEVEL_RATE = 0.01
"""Weight of a batch in the mean shape of those that run. That is kept at 1: ratio and shapes could share what they agree on in many ways, and each
accident would shift a little of it, until sizes that never ran are believed to take three times as long as they do."""

N_TRIALS = 4
N_BETWEEN_TRIALS = 64
"""Batches larger than the best size that are tried under backlog at first, and one after every so many times the rows of a full one, whatever is
believed of them: what is believed may be wrong about just these. They are as large as deadlines allow, so one that is not full counts as well:
where none can be full, all would be trials for ever."""


class Forecast(Pace):
    """The ratio of measured to predicted time: of all batches, and of each batch size against all.

    Both are moving averages, clamped; the sizes are kept at powers of two and interpolated between. The guard is a rolling high quantile of
    measured against expected.
    """

    __slots__ = (
        "_level", "_measured_at", "_n_rows", "_n_tried", "_places", "_shape", "_shape_used", "_targets", "costs",
    )  # fmt: skip

    def __init__(self, costs: CostTable) -> None:
        self._restart(costs)

    def _restart(self, costs: CostTable) -> None:
        """Expect what these costs say, uncorrected."""
        super().__init__()
        self.costs = costs
        self._places = [_place(rows) for rows in range(1, costs.max_rows + 1)]
        n_sizes = self._places[-1][0] + 2
        self._shape = [1.0] * n_sizes
        self._shape_used = [1.0] * n_sizes
        self._level = 1.0
        self._n_tried = self._n_rows = 0
        self._measured_at = [-SHAPE_MEMORY] * n_sizes
        self._targets: dict[int, tuple[int, int]] = {}

    def __repr__(self) -> str:
        return f"<{self.ratio:.2f} of the profile, guard {self.guard:.2f}, drift {self.drift.value}>"

    def ratio_of(self, rows: int) -> float:
        """Measured ÷ predicted for batches of so many rows."""
        return self.ratio * self._shape_of(rows)

    def _shape_of(self, rows: int) -> float:
        size, further = self._places[rows - 1]
        shape = self._shape[size]
        return shape + further * (self._shape[size + 1] - shape)

    def _shape_used_for(self, rows: int) -> float:
        size, further = self._places[rows - 1]
        shape = self._shape_used[size]
        return shape + further * (self._shape_used[size + 1] - shape)

    def takes_s(self, rows: int, length: int) -> float:
        """Expected time of a batch."""
        return self.costs.batch_s(rows, length) * self.ratio * self._shape_of(rows)

    def at_most_s(self, rows: int, length: int) -> float:
        """The same with the guard for a slow run: the profile's own until enough batches were measured."""
        expected_s = self.costs.batch_s(rows, length) * self.ratio * self._shape_of(rows)
        if self._slow is not None:
            return expected_s * self._slow
        return expected_s + self.costs.guard_s(rows, length) * self.ratio

    def at_best_s(self, rows: int, length: int) -> float:
        """The least that a batch may take. The correction counts only where it shortens: a device that was slow just now
        must not lock requests out for ever."""
        return self.costs.batch_s(rows, length) * min(1.0, self.ratio * self._shape_of(rows))

    def knee(self, length: int) -> int:
        """Fewest rows that reach 95 % of the best rate at this length."""
        return self._target(length)[0]

    def best(self, length: int) -> int:
        """Fewest rows that reach practically the best rate at this length."""
        return self._target(length)[1]

    def full(self, length: int) -> int:
        """The target under backlog: the best size, or the largest while that is to be tried."""
        if self._n_tried < N_TRIALS or self._n_rows > N_BETWEEN_TRIALS * self.costs.max_rows:
            return self.costs.max_rows
        return self.best(length)

    def _target(self, length: int) -> tuple[int, int]:
        line = self.costs.line(length)
        found = self._targets.get(id(line))  # lengths that are rounded to the same one share it
        if found is None:
            shaped = [cost_s * self._shape_used_for(rows) for rows, cost_s in enumerate(line, 1)]
            found = self._targets[id(line)] = targets(shaped, self.costs.brief_s)
        return found

    def learn(self, rows: int, length: int, took_s: float) -> None:
        """Move towards what this batch took."""
        predicted_s, shape = self.costs.batch_s(rows, length), self._shape_of(rows)
        measured = took_s / predicted_s
        if self._n >= N_SETTLED:
            self._remember(took_s / (predicted_s * self.ratio * shape), measured)
        ratio = clamped(measured, RATIO_LIMITS)
        self._n += 1
        self._n_rows += rows
        if rows == self.costs.max_rows or rows > self.best(length):
            self._n_tried, self._n_rows = self._n_tried + 1, 0
        self.ratio += max(RATE, 1 / self._n) * (ratio / shape - self.ratio)
        if not self.costs.is_brief(rows, length):  # those say more about the event loop than about the device
            self._trend += DRIFT_RATE * (ratio - self._trend)
        size, further = self._places[rows - 1]
        error = ratio / self.ratio - shape
        self._reshape(size, 1 - further, error)
        if further:
            self._reshape(size + 1, further, error)
        self._level += LEVEL_RATE * (self._shape_of(rows) - self._level)
        if abs(self._level - 1) > SHAPE_CHANGE:
            self._settle()

    def _reshape(self, size: int, weight: float, error: float) -> None:
        low, high = SHAPE_RATES
        rate = weight * min(high, max(low, (self._n - self._measured_at[size]) / SHAPE_MEMORY))
        self._measured_at[size] = self._n
        self._shape[size] = clamped(self._shape[size] + rate * error, SHAPE_LIMITS)
        if abs(self._shape[size] - self._shape_used[size]) > SHAPE_CHANGE:
            self._shape_used = list(self._shape)
            self._targets.clear()

    def _settle(self) -> None:
        """Make the ratio that of the batches that run. Nothing else is expected of them, or of any size that ever ran, by that."""
        level, self._level = self._level, 1.0
        self.ratio *= level
        self._shape = [
            clamped(shape / level, SHAPE_LIMITS) if at > 0 else shape
            for shape, at in zip(self._shape, self._measured_at, strict=True)
        ]
        self._shape_used = list(self._shape)
        self._targets.clear()


def _place(rows: int) -> tuple[int, float]:
    """Which power of two is at or below so many rows, and how far on they are to the next one, in shares of 1."""
    size = rows.bit_length() - 1
    return size, rows / (1 << size) - 1
