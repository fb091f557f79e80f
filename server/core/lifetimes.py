"""How many of the tokens that they may have requests really take, learnt from those that ended."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import deque
from collections.abc import Sequence
from operator import itemgetter

N_RECENT = 64

N_POINTS = 8
"""A guess is so many values, each as likely as the others: what happens first among many follows from their spread, not from means."""

_MIDDLES = [(place + 0.5) / N_POINTS for place in range(N_POINTS)]
_PICKED = [itemgetter(*[int(middle * count) for middle in _MIDDLES]) for count in range(1, N_RECENT + 1)]  # out of 1, 2, …


class Lifetimes:
    """The shares that the last 64 took. One that has had so much is like those that took more."""

    __slots__ = ("_ordered", "_recent")

    def __init__(self) -> None:
        self._recent: deque[float] = deque()
        self._ordered: list[float] = []

    def learn(self, n_taken: int, most: int) -> None:
        """One has ended after so many tokens of those that it might have had."""
        self._recent.append(n_taken / most)
        insort(self._ordered, n_taken / most)
        if len(self._recent) > N_RECENT:
            self._ordered.remove(self._recent.popleft())

    def shares(self, taken: float) -> Sequence[float]:
        """The shares that one may take in all which has taken this one: N_POINTS values in order, up to 1 where nothing is known."""
        longer = self._ordered[bisect_right(self._ordered, taken) :]
        if not longer:
            return [taken + middle * (1 - taken) for middle in _MIDDLES]
        picked: tuple[float, ...] = _PICKED[len(longer) - 1](longer)
        return picked
