"""Histograms that are fed on the event loop, many values at a time, and become Prometheus' only when they are scraped.

The library's own lock each value, from whatever thread it comes; at tens of thousands of requests a second that is
several percent of a core.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString


class BucketCounts:
    """One histogram. Owned by one thread; read by any, which may see a value counted that is not in the sum yet."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        """`bounds`: upper bounds, ascending and inclusive; the bucket without one is added."""
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, values: Sequence[float]) -> None:
        counts, bounds = self._counts, self._bounds
        for value in values:
            counts[bisect_left(bounds, value)] += 1
        self._sum += sum(values)

    def cumulative(self) -> tuple[list[tuple[str, float]], float]:
        """(upper bound as Prometheus writes it, values up to it) for each bucket, and the sum of all values."""
        rows: list[tuple[str, float]] = []
        total = 0
        for bound, count in zip((*self._bounds, float("inf")), list(self._counts), strict=True):
            total += count
            rows.append((floatToGoString(bound), total))  # type: ignore[no-untyped-call]  # the library has no types there
        return rows, self._sum


class Histogram(Collector):
    """One name with its labels; a child for each set of label values, which stays for good, as Prometheus expects."""

    def __init__(
        self, name: str, text: str, labels: Sequence[str], bounds: Sequence[float], registry: CollectorRegistry
    ) -> None:
        self._name = name
        self._text = text
        self._labels = labels
        self._bounds = bounds
        self._children: dict[tuple[str, ...], BucketCounts] = {}
        registry.register(self)

    def labels(self, *values: str) -> BucketCounts:
        return self._children.setdefault(values, BucketCounts(self._bounds))

    def collect(self) -> Iterable[HistogramMetricFamily]:
        family = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        for values, child in list(self._children.items()):
            buckets, total = child.cumulative()
            family.add_metric(values, buckets, total)
        return (family,)
