"""What a step of residents will take here and now: the profile, corrected by what steps have really taken."""

from __future__ import annotations

from server.contract.step_profile import margin
from server.core.costs import StepCosts
from server.core.pace import DRIFT_RATE, N_SETTLED, RATE, RATIO_LIMITS, Pace, clamped


class StepForecast(Pace):
    """Measured ÷ predicted, of decoding and of prefill.

    A step does both and has but one time: what surprises is attributed to the two by their shares of it (normalised least mean squares),
    which for a step of only one of them is the moving average. `ratio`: of whole steps, for people.
    """

    __slots__ = ("costs", "decode_ratio", "prefill_ratio")

    def __init__(self, costs: StepCosts) -> None:
        super().__init__()
        self.costs = costs
        self.decode_ratio = 1.0
        self.prefill_ratio = 1.0

    def __repr__(self) -> str:
        ratios = f"decode {self.decode_ratio:.2f}, prefill {self.prefill_ratio:.2f} of the profile"
        return f"<{ratios}, guard {self.guard:.2f}, drift {self.drift.value}>"

    @property
    def margin(self) -> float:
        """How much longer than expected a step may take that must not be too long. The guard is what one in thirty exceeds, but a request
        lives through hundreds: the same distance again."""
        return margin(self._slow or self.costs.guard)

    def decode_s(self, rows: int, context: int) -> float:
        """Expected time of the decode of a step; nobody takes no time."""
        return self.costs.decode_s(rows, context) * self.decode_ratio if rows else 0.0

    def prefill_s(self, tokens: int) -> float:
        """Expected time that a chunk adds."""
        return self.costs.prefill_s(tokens) * self.prefill_ratio

    def prefill_at_best_s(self, tokens: int) -> float:
        """The least that it may add: the correction counts only where it shortens, since a device that was slow just now must not lock
        requests out for ever."""
        return self.costs.prefill_s(tokens) * min(1.0, self.prefill_ratio)

    def decode_at_best_s(self, rows: int, context: int) -> float:
        return self.costs.decode_s(rows, context) * min(1.0, self.decode_ratio) if rows else 0.0

    def row_s(self, tokens: int) -> float:
        """What a waiting prompt adds to the work, by the profile."""
        return self.costs.prefill_s(tokens)

    def learn(self, decode_s: float, prefill_s: float, took_s: float) -> None:
        """Move towards what a step took for which the profile says so much and so much."""
        predicted_s = decode_s + prefill_s
        measured = took_s / predicted_s
        ratio = clamped(measured, RATIO_LIMITS)
        expected_s = decode_s * self.decode_ratio + prefill_s * self.prefill_ratio
        if self._n >= N_SETTLED:
            self._remember(took_s / expected_s, measured)
        self._n += 1
        push = max(RATE, 1 / self._n) * (ratio * predicted_s - expected_s) / (decode_s * decode_s + prefill_s * prefill_s)
        self.decode_ratio = clamped(self.decode_ratio + push * decode_s, RATIO_LIMITS)
        self.prefill_ratio = clamped(self.prefill_ratio + push * prefill_s, RATIO_LIMITS)
        self.ratio += max(RATE, 1 / self._n) * (ratio - self.ratio)
        self._trend += DRIFT_RATE * (ratio - self._trend)
