"""Quantiles and rates over the last seconds, in constant memory. Knows nothing of Prometheus."""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from typing import NamedTuple

_LEAST_S = 1e-6
_GROWTH = 1.02
_N_BUCKETS = 932  # 1 µs · 1.02^931 ≈ 100 s
_LOG_GROWTH = log(_GROWTH)


class Summary(NamedTuple):
    """p50 and p99 in seconds (NaN when nothing was recorded), and records per second."""

    p50_s: float
    p99_s: float
    rate: float


class SlidingWindow:
    """Latencies of the last `n_slices` seconds, in log-spaced buckets 2 % apart, one histogram per second.

    A quantile is therefore within 1 % of the exact one, and at most a second too old.
    """

    def __init__(self, n_slices: int = 30) -> None:
        self._n_slices = n_slices
        self._slices = [[0] * _N_BUCKETS for _ in range(n_slices)]
        self._seconds = [-1] * n_slices
        self._counts = [0] * n_slices
        self._began_at: float | None = None

    def record(self, latencies_s: Sequence[float], now: float) -> None:
        """Count some latencies at time `now` (absolute seconds, never going back)."""
        second = int(now)
        place = second % self._n_slices
        if self._seconds[place] != second:
            self._start_slice(place, second, now)
        counts = self._slices[place]
        for latency_s in latencies_s:
            bucket = int(log(latency_s / _LEAST_S) / _LOG_GROWTH) if latency_s > _LEAST_S else 0
            counts[min(bucket, _N_BUCKETS - 1)] += 1
        self._counts[place] += len(latencies_s)

    def summary(self, now: float) -> Summary:
        """Over the slices that are not older than the window."""
        live = [n for n, second in enumerate(self._seconds) if second > int(now) - self._n_slices]
        total = sum(self._counts[n] for n in live)
        if not total or self._began_at is None:
            return Summary(float("nan"), float("nan"), 0.0)
        merged = [sum(column) for column in zip(*(self._slices[n] for n in live), strict=True)]
        span_s = min(max(now - self._began_at, 1.0), self._n_slices - 1 + now % 1)
        return Summary(_quantile(merged, total, 0.50), _quantile(merged, total, 0.99), total / span_s)

    def _start_slice(self, place: int, second: int, now: float) -> None:
        if self._began_at is None or second - max(self._seconds) >= self._n_slices:
            self._began_at = now  # after a silence the rate counts from the first record again
        self._slices[place] = [0] * _N_BUCKETS
        self._seconds[place] = second
        self._counts[place] = 0


def _quantile(buckets: list[int], total: int, share: float) -> float:
    """The middle (in logarithm) of the bucket that holds the record of this rank."""
    rank, seen = share * total, 0
    for bucket, count in enumerate(buckets):
        seen += count
        if seen >= rank and count:
            return float(_LEAST_S * _GROWTH ** (bucket + 0.5))
    raise AssertionError("the buckets hold less than their total")
