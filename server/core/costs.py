"""A profile turned into table look-ups: what a batch costs, and how many rows are worth having."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

HAND_OFF_S = 100e-6
"""Forming a batch and waking the instance, which the profile (measured at the Session) does not contain."""

START_S = 20e-6
"""The same for a brief batch, which the event loop runs itself."""

BOOKS_S = 60e-6
"""What the loop spends on a batch besides, before it is formed and after it has run. For a brief one that is time in which the next one does not
run: it makes nobody's batch later, but small batches dearer."""

KNEE = 0.95
"""A batch this close to the best rate is large enough: more rows only add waiting."""

FULL = 0.997
"""Under backlog rows are added until the rate is this close to the best; where more rows bring nothing, a batch is small."""

_STEPS = 64


class StepCosts(Protocol):
    """What a step of a generating model takes, as its profile says: medians in seconds, more than 0, hand-over and sampling included."""

    @property
    def guard(self) -> float:
        """The 99th percentile of a step's time ÷ its median."""

    def decode_s(self, rows: int, context: int) -> float:
        """One token for each of `rows` (at least 1), which have so many tokens before it, all together."""

    def prefill_s(self, tokens: int) -> float:
        """One chunk of a prompt of so many tokens, beside whatever else the step does."""


@dataclass(frozen=True, slots=True)
class LinearSteps:
    """A generating model by its law, in seconds: `step_s` + `row_s` · rows + `kept_s` · tokens kept for them, and for each chunk of a
    prompt `chunk_s` + `token_s` · tokens."""

    step_s: float
    row_s: float = 0.0
    kept_s: float = 0.0
    chunk_s: float = 1e-6
    token_s: float = 0.0
    guard: float = 1.0

    def decode_s(self, rows: int, context: int) -> float:
        return self.step_s + self.row_s * rows + self.kept_s * context

    def prefill_s(self, tokens: int) -> float:
        return self.chunk_s + self.token_s * tokens


class Law(Protocol):
    """What batches take: a profile, or what was learnt instead of one. Must not fall when rows or length grow."""

    @property
    def measured_lengths(self) -> tuple[int, ...]: ...
    def predict(self, rows: int, length: int = 0) -> float: ...
    def predict_p99(self, rows: int, length: int = 0) -> float: ...


class Unmeasured(NamedTuple):
    """Instead of costs: nothing is known yet of what batches take, of up to so many rows and so long."""

    max_rows: int
    longest: int


class CostTable:
    """Costs in seconds by rows and length. Lengths are rounded up to 1/64 of the longest measured one, and cost what that
    one does past it (the contract refuses them earlier).

    A batch that takes less than `brief_s` is brief: nobody hands it to another thread, so it costs less to begin.
    Built once per model version: O(rows × 64) predictions, then a look-up per length.
    """

    __slots__ = ("_batch", "_guard", "_knee", "_longest", "_row", "brief_s", "law", "max_rows")

    def __init__(self, law: Law, max_rows: int, brief_s: float = 0.0) -> None:
        longest = law.measured_lengths[-1]
        step = max(1, -(-longest // _STEPS))
        lengths = range(0, longest + step, step)
        rows = range(1, max_rows + 1)
        runs = [[law.predict(r, n) for r in rows] for n in lengths]
        batch = [[run_s + (START_S if run_s < brief_s else HAND_OFF_S) for run_s in line] for line in runs]
        guard = [[law.predict_p99(r, n) - law.predict(r, n) for r in rows] for n in lengths]
        row = [min(cost / r for r, cost in zip(rows, line, strict=True)) for line in batch]
        knee = [targets(line, brief_s)[0] for line in batch]
        rounded = [-(-length // step) for length in range(longest + 1)]
        self.law = law
        self.max_rows = max_rows
        self.brief_s = brief_s
        self._longest = longest
        self._batch = [batch[n] for n in rounded]
        self._guard = [guard[n] for n in rounded]
        self._knee = [knee[n] for n in rounded]
        self._row = [row[n] for n in rounded]

    def batch_s(self, rows: int, length: int) -> float:
        """Median time of a batch, hand-off included."""
        return self._batch[length if length < self._longest else -1][rows - 1]

    def is_brief(self, rows: int, length: int) -> bool:
        """Whether a batch is expected to take less than changing threads for it would cost."""
        return self._batch[length if length < self._longest else -1][rows - 1] < self.brief_s + START_S

    def guard_s(self, rows: int, length: int) -> float:
        """How much later than the median the 99th percentile is."""
        return self._guard[length if length < self._longest else -1][rows - 1]

    def row_s(self, length: int) -> float:
        """Least time per row at this length, at the best batch size: what a waiting row adds to the backlog."""
        return self._row[length if length < self._longest else -1]

    def knee(self, length: int) -> int:
        """Fewest rows that reach 95 % of the best rate at this length."""
        return self._knee[length if length < self._longest else -1]

    def line(self, length: int) -> list[float]:
        """batch_s for 1, 2, … rows at this length, for loops that look up many row counts."""
        return self._batch[length if length < self._longest else -1]


def targets(line: Sequence[float], brief_s: float) -> tuple[int, int]:
    """Given the cost of 1, 2, … rows: the fewest that reach the knee, and the fewest that reach practically the best rate."""
    rates = [rows / (cost_s + (BOOKS_S if cost_s < brief_s + START_S else 0.0)) for rows, cost_s in enumerate(line, 1)]
    best = max(rates)
    knee = next(rows for rows, rate in enumerate(rates, 1) if rate >= KNEE * best)
    return knee, next(rows for rows, rate in enumerate(rates, 1) if rate >= FULL * best)
