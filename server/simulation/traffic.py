"""Traffic as it is asked for, and the requests that come of it at any multiple of its rate."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from server.core.types import InferRequest, ModelKey
from server.simulation.arrivals import Shaped, Trace
from server.simulation.clients import Request
from server.simulation.lengths import Lengths


@dataclass(frozen=True, slots=True)
class Traffic:
    """Requests of one kind: `rate` per second in the mean (a trace has its own). `slo_s`: later answers are late; `allowed_s`: what the
    server takes for their deadline. `lengths`: None for a model whose inputs are all alike."""

    name: str
    model: ModelKey
    arrivals: Shaped | Trace
    rate: float
    slo_s: float
    allowed_s: float
    rows: int = 1
    lengths: Lengths | None = None
    start_s: float = 0.0

    def times(self, factor: float, duration_s: float, rnd: random.Random) -> Iterator[float]:
        """When they come, at this multiple of the rate."""
        span_s = duration_s - self.start_s
        arrivals = self.arrivals
        times = (
            arrivals.times(factor, span_s) if isinstance(arrivals, Trace) else arrivals.times(factor * self.rate, span_s, rnd)
        )
        return (self.start_s + at for at in times)

    def requests(self, factor: float, duration_s: float, seed: int) -> list[Request]:
        """Always the same ones for a seed; at another factor they come closer together or further apart, and are the same else."""
        comes, is_long = random.Random(f"{seed} {self.name} times"), random.Random(f"{seed} {self.name} lengths")
        known = self.arrivals.lengths if isinstance(self.arrivals, Trace) else None
        return [
            InferRequest(n, self.model, self.rows, known[n] if known else self._length(is_long), at, at + self.allowed_s, 1)
            for n, at in enumerate(self.times(factor, duration_s, comes))
        ]

    def some_lengths(self, n: int) -> Sequence[int]:
        """A sample, to reckon with the mean."""
        rnd = random.Random(f"{self.name} sample")
        return [self._length(rnd) for _ in range(n)]

    def _length(self, rnd: random.Random) -> int:
        return int(self.lengths.draw(rnd)) if self.lengths else 0


@dataclass(frozen=True, slots=True)
class Crowd:
    """All requests in order of arrival, numbered in that order, and the number of the traffic that each belongs to."""

    requests: Sequence[Request]
    of_traffic: Sequence[int]


def crowd(traffic: Sequence[Traffic], factor: float, duration_s: float, seed: int) -> Crowd:
    """Several kinds of traffic at once."""
    mixed = [(one.arrived_at, at, one) for at, kind in enumerate(traffic) for one in kind.requests(factor, duration_s, seed)]
    mixed.sort(key=_when)
    return Crowd([replace(one, id=number) for number, (_, _, one) in enumerate(mixed)], [at for _, at, _ in mixed])


def _when(one: tuple[float, int, Request]) -> tuple[float, int]:
    return one[:2]
