"""Who asks for what and when: open-loop arrivals drawn from a seeded generator. A request's payload is the steps it takes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence

from server.core.types import InferRequest, ModelKey

MODEL = ModelKey("m", 1)

Request = InferRequest[int]
Draw = Callable[[random.Random], float]


def poisson_times(rate: float, n_requests: int, rnd: random.Random) -> Iterator[float]:
    """Arrival times at a constant rate per second."""
    at = 0.0
    for _ in range(n_requests):
        at += rnd.expovariate(rate)
        yield at


def bursty_times(
    mean_rate: float, n_requests: int, rnd: random.Random, factor: float = 3.0, share: float = 0.25, period_s: float = 2.0
) -> Iterator[float]:
    """Poisson arrivals at `factor` times the mean rate in the first `share` of every period, and at what is left in the rest.

    By thinning (Lewis and Shedler, 1979), so that the rate changes at once at the borders.
    """
    rest = (1 - factor * share) / (1 - share)
    at, n_given = 0.0, 0
    while n_given < n_requests:
        at += rnd.expovariate(factor * mean_rate)
        if at % period_s < share * period_s or rnd.random() < rest / factor:
            n_given += 1
            yield at


def ask(
    times: Iterator[float], rnd: random.Random, slo_s: float | Draw, model: ModelKey = MODEL, length: Draw | None = None,
    priority: int = 0, steps: Draw | None = None, first_id: int = 0,
) -> list[Request]:  # fmt: skip
    """One request of one row at each time."""
    requests = []
    for number, at in enumerate(times, first_id):
        allowed_s = slo_s(rnd) if callable(slo_s) else slo_s
        tokens = int(length(rnd)) if length else 0
        n_steps = int(steps(rnd)) if steps else 1
        requests.append(InferRequest(number, model, 1, tokens, at, at + allowed_s, n_steps, priority))
    return requests


def log_normal(median: float, sigma: float, cap: int) -> Draw:
    """Lengths of texts: at least 1, at most `cap`."""

    def draw(rnd: random.Random) -> float:
        return max(1.0, min(float(cap), median * rnd.lognormvariate(0.0, sigma)))

    return draw


def either(*values: float) -> Draw:
    """One of these, evenly."""
    return lambda rnd: rnd.choice(values)


def merged(*streams: Sequence[Request]) -> list[Request]:
    """All requests in order of arrival, numbered anew in that order."""
    ordered = sorted((request for stream in streams for request in stream), key=_arrival)
    return [
        InferRequest(number, r.model, r.rows, r.length, r.arrived_at, r.deadline_at, r.payload, r.priority)
        for number, r in enumerate(ordered)
    ]  # fmt: skip


def _arrival(request: Request) -> float:
    return request.arrived_at
