"""How many of the tokens that they may have requests really take, learnt from those that ended."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import deque
from itertools import accumulate

N_RECENT = 64

UNKNOWN = 0.5
"""Share of what is left that is expected where nothing is known: too little is corrected in the queue, too much costs a free slot."""


class Lifetimes:
    """The shares that the last 64 took. What is left of one that has had so much is the mean over those that took more."""

    __slots__ = ("_left", "_ordered", "_recent")

    def __init__(self) -> None:
        self._recent: deque[float] = deque()
        self._ordered: list[float] = []
        self._left: list[float] = []  # sums of the ordered shares from each place to the end

    def learn(self, n_taken: int, most: int) -> None:
        """One has ended after so many tokens of those that it might have had."""
        self._recent.append(n_taken / most)
        insort(self._ordered, n_taken / most)
        if len(self._recent) > N_RECENT:
            self._ordered.remove(self._recent.popleft())
        self._left = list(accumulate(reversed(self._ordered)))[::-1]

    def rest(self, n_taken: int, most: int) -> float:
        """Tokens that one is expected to take yet: at least 1."""
        place = bisect_right(self._ordered, n_taken / most)
        n_longer = len(self._ordered) - place
        if not n_longer:
            return max(1.0, UNKNOWN * (most - n_taken))
        return max(1.0, self._left[place] / n_longer * most - n_taken)
