"""The forecast of a model whose profile is not known: drawn from its own batches, and hopeful until then."""

from __future__ import annotations

from server.core.costs import HAND_OFF_S, CostTable, Unmeasured
from server.core.forecast import Forecast
from server.core.sketch import Sketch
from server.core.types import Drift

LEAST_S = 1e-6
"""A batch that took no longer than the hand-over took this."""


class Learning(Forecast):
    """Expects nothing before the first batch has run: whatever waits is dispatched then, and nobody is refused.

    Later it expects what the law of the batches says, corrected like a profile.
    """

    __slots__ = ("_sketch",)

    def __init__(self, unmeasured: Unmeasured) -> None:
        self._sketch = Sketch(unmeasured.longest)
        super().__init__(CostTable(self._sketch.law, unmeasured.max_rows))

    def __repr__(self) -> str:
        return f"<learning, {self._sketch!r}>"

    @property
    def drift(self) -> Drift:
        """There is no profile to drift from."""
        return Drift.NONE

    def learn(self, rows: int, length: int, took_s: float) -> None:
        """Draw the law anew from time to time, else correct it."""
        if self._sketch.learn(rows, length, max(LEAST_S, took_s - HAND_OFF_S)):
            self._restart(CostTable(self._sketch.law, self.costs.max_rows))
        else:
            super().learn(rows, length, took_s)
