"""Token buckets, one for each key, in bounded memory. Whose keys they are, and what a token is worth, is not known here."""

from __future__ import annotations

from collections import OrderedDict
from math import inf

_LOOKED_AT = 4
"""Buckets at a time, when one must be forgotten."""


class Buckets:
    """Each holds up to `burst` tokens and gets `rate` a second. Of each only the time is kept at which it is full again.

    A full bucket is forgotten: a key that is not known has a full one. When `most_keys` are known and none of them may be
    forgotten, all newcomers share one bucket more, so that whoever invents keys takes nothing away from those that are known.
    """

    def __init__(self, rate: float, burst: float, most_keys: int) -> None:
        self.rate = rate
        self.burst = burst
        self._most_keys = most_keys
        self._full_at: OrderedDict[int, float] = OrderedDict()  # those used longest ago first, but for large debts
        self._others_full_at = -inf

    def __len__(self) -> int:
        return len(self._full_at)

    def wait_s(self, key: int, cost: float, now: float) -> float:
        """How long until so many tokens can be taken: 0 at once, inf never."""
        if cost > self.burst:
            return inf
        return max(0, self._empty_s(key, now) + (cost - self.burst) / self.rate)

    def take(self, key: int, cost: float, now: float) -> float:
        """Take so many tokens if they are there; what `wait_s` says, so 0 when they were taken."""
        wait_s = self.wait_s(key, cost, now)
        if wait_s == 0:
            self.charge(key, cost, now)
        return wait_s

    def charge(self, key: int, cost: float, now: float) -> None:
        """Take so many tokens whether they are there or not: then the bucket is in debt, and nothing can be taken until that is paid."""
        self._fill(key, now + self._empty_s(key, now) + cost / self.rate, now)

    def _empty_s(self, key: int, now: float) -> float:
        """How long the bucket takes until it is full."""
        full_at = self._full_at.get(key)
        if full_at is None:
            full_at = -inf if self._has_room(now) else self._others_full_at
        return max(0, full_at - now)

    def _fill(self, key: int, full_at: float, now: float) -> None:
        if self._full_at.pop(key, None) is None and not self._has_room(now):
            self._others_full_at = full_at
        else:
            self._full_at[key] = full_at

    def _has_room(self, now: float) -> bool:
        """Forget a bucket that is full, if its place is needed: the one that was used longest ago, unless it has a debt. Without one it is full
        when burst ÷ rate have passed."""
        if len(self._full_at) < self._most_keys:
            return True
        for _ in range(_LOOKED_AT):
            oldest = next(iter(self._full_at))
            if self._full_at[oldest] <= now:
                del self._full_at[oldest]
                return True
            self._full_at.move_to_end(oldest)  # a large debt must not hide those behind it
        return False
