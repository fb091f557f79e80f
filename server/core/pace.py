"""How a device keeps to its profile: a rolling guard against slow runs, and the alarm for a lasting drift."""

from __future__ import annotations

from bisect import insort
from collections import deque

from server.core.types import Drift

RATE = 0.1
"""Weight of a new measurement in a ratio; the first ones count as much as all before them together."""

RATIO_LIMITS = (0.25, 8.0)

N_RECENT = 64
N_ENOUGH = 20
N_SLOWER = 2
"""The guard is the slowest but one of the recent runs, about their 97th percentile, once there are enough of them."""

N_SETTLED = 4
"""Runs before a surprise counts: until then it is the profile that is wrong."""

ERROR_RATE = 0.05
"""Weight of a new measurement in the errors that are shown."""

DRIFT_RATE = 0.02
DRIFT_LIMITS = (0.8, 1.25)


class Pace:
    """Remembers surprises (measured ÷ expected) and the ratio of what was measured to what the profile predicted, a recent and a long-term one.

    `error` and `profile_error` are for people: how far measurements are from what was expected, and from the profile, on the average.
    """

    __slots__ = ("_n", "_ordered", "_recent", "_slow", "_trend", "error", "profile_error", "ratio")

    def __init__(self) -> None:
        self._n = 0
        self.ratio = 1.0
        self.error = self.profile_error = 0.0
        self._trend = 1.0
        self._slow: float | None = None
        self._recent: deque[float] = deque()
        self._ordered: list[float] = []

    @property
    def guard(self) -> float:
        """How many times longer than expected a slow run takes; 1.0 until that was measured."""
        return self._slow or 1.0

    @property
    def drift(self) -> Drift:
        """The alarm: the long-term ratio has left its limits."""
        low, high = DRIFT_LIMITS
        return Drift.SLOWER if self._trend > high else Drift.FASTER if self._trend < low else Drift.NONE

    def _remember(self, surprise: float, measured: float) -> None:
        """`surprise`: measured ÷ expected; `measured`: ÷ predicted by the profile."""
        self.error += ERROR_RATE * (abs(surprise - 1) - self.error)
        self.profile_error += ERROR_RATE * (abs(measured - 1) - self.profile_error)
        self._recent.append(surprise)
        insort(self._ordered, surprise)
        if len(self._recent) > N_RECENT:
            self._ordered.remove(self._recent.popleft())
        if len(self._recent) >= N_ENOUGH:
            self._slow = max(1.0, self._ordered[-N_SLOWER])


def clamped(value: float, limits: tuple[float, float]) -> float:
    """`value`, or the limit that it exceeds."""
    return min(max(value, limits[0]), limits[1])
