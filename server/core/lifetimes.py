"""How many of the tokens that they may have requests really take, learnt from those that ended."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import deque

N_RECENT = 64

N_POINTS = 8
"""A guess is so many values, each as likely as the others: what happens first among many follows from their spread, not from means."""

_MIDDLES = [(place + 0.5) / N_POINTS for place in range(N_POINTS)]


class Lifetimes:
    """The shares that the last 64 took. What is left of one that has had so much is like those that took more."""

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

    def rest(self, n_taken: int, most: int) -> list[float]:
        """The tokens that one may take yet: N_POINTS values in order. Anything up to the most where nothing is known."""
        ordered = self._ordered
        place = bisect_right(ordered, n_taken / most)
        n_longer = len(ordered) - place
        if not n_longer:
            return [middle * (most - n_taken) for middle in _MIDDLES]
        return [ordered[place + int(middle * n_longer)] * most - n_taken for middle in _MIDDLES]
