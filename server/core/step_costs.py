"""A measured step profile turned into look-ups: what a step of residents costs (satisfies costs.StepCosts)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from server.contract.step_profile import StepProfile


class StepTable:
    """Linear between what was measured, by the last slope past it, never falling when rows, context or tokens grow.

    The context is that of all rows together: a row is taken to have the mean of it.
    """

    __slots__ = ("_contexts", "_decode", "_prefill", "_rows", "_tokens", "guard", "profile")

    def __init__(self, profile: StepProfile) -> None:
        self.profile = profile
        by_place = {(cell.rows, cell.context): cell.p50_s for cell in profile.decode}
        self._rows, self._contexts = profile.measured_rows, profile.measured_contexts
        lines = [list(accumulate((by_place[rows, context] for context in self._contexts), max)) for rows in self._rows]
        self._decode = [lines[0]]
        for line in lines[1:]:
            self._decode.append([max(pair) for pair in zip(line, self._decode[-1], strict=True)])
        cells = sorted(profile.prefill, key=lambda cell: cell.tokens)
        self._tokens = [cell.tokens for cell in cells]
        self._prefill = list(accumulate((cell.p50_s for cell in cells), max))
        self.guard = profile.guard

    def decode_s(self, rows: int, context: int) -> float:
        """Seconds of one token for each of `rows` (at least 1), which have so many tokens before it, all together."""
        each = context / rows
        if len(self._rows) == 1:
            return _along(self._contexts, self._decode[0], each)
        low = max(0, min(bisect_right(self._rows, rows) - 1, len(self._rows) - 2))
        below = _along(self._contexts, self._decode[low], each)
        above = _along(self._contexts, self._decode[low + 1], each)
        share = (rows - self._rows[low]) / (self._rows[low + 1] - self._rows[low])
        return below + (above - below) * max(0.0, share)

    def prefill_s(self, tokens: int) -> float:
        """Seconds of one chunk of a prompt of so many tokens. Of few it is bounded by its fixed cost."""
        return _along(self._tokens, self._prefill, tokens)


def _along(marks: Sequence[int], values: Sequence[float], at: float) -> float:
    if at <= marks[0] or len(marks) == 1:
        return values[0]
    low = min(bisect_right(marks, at) - 1, len(marks) - 2)
    slope = (values[low + 1] - values[low]) / (marks[low + 1] - marks[low])
    return values[low] + slope * (at - marks[low])
