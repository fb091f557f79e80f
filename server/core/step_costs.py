"""A measured step profile turned into look-ups: what a step of residents costs (satisfies costs.StepCosts)."""

from __future__ import annotations

from server.contract.profile import Cell, Profile
from server.contract.step_profile import StepProfile


class StepTable:
    """Linear between what was measured, by the last slope past it, never falling when rows, their mean context, or tokens grow.

    Both are profiles like those of batches, which see to that: decode over rows x context of each, prefill over tokens.
    """

    __slots__ = ("_decode", "_prefill", "guard", "profile")

    def __init__(self, profile: StepProfile) -> None:
        decode = (Cell(cell.rows, cell.context, cell.p50_s, cell.p99_s, cell.p99_s, cell.samples, 0) for cell in profile.decode)
        prefill = (Cell(1, cell.tokens, cell.p50_s, cell.p99_s, cell.p99_s, cell.samples, 0) for cell in profile.prefill)
        self._decode = Profile(profile.device, profile.placement, tuple(decode))
        self._prefill = Profile(profile.device, profile.placement, tuple(prefill))
        self.profile = profile
        self.guard = profile.guard

    def decode_s(self, rows: int, context: int) -> float:
        """Seconds of one token for each of `rows` (at least 1), which have so many tokens before it, all together: a row is taken to
        have the mean of it."""
        return self._decode.predict(rows, context / rows)

    def prefill_s(self, tokens: int) -> float:
        """Seconds of one chunk of a prompt of so many tokens. Of few it is bounded by its fixed cost."""
        return self._prefill.predict(1, tokens)
