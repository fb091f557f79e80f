"""Who asks for what and when: open-loop arrivals drawn from a seeded generator. A request's payload is the steps it takes."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from server.core.types import GenerateRequest, InferRequest, ModelKey

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


def ask_for_tokens(
    times: Iterator[float], rnd: random.Random, first_s: float | Draw, prompt: int | Draw, steps: Draw, new_tokens: int,
    model: ModelKey = MODEL, priority: int = 0, first_id: int = 0,
) -> list[GenerateRequest[int]]:  # fmt: skip
    """One prompt at each time, whose first token is due after `first_s`; it takes so many steps, but at most `new_tokens`."""
    requests = []
    for number, at in enumerate(times, first_id):
        allowed_s = first_s(rnd) if callable(first_s) else first_s
        length = int(prompt(rnd)) if callable(prompt) else prompt
        n_steps = max(1, min(new_tokens, int(steps(rnd))))
        one = GenerateRequest(number, model, 1, length, at, at + allowed_s, n_steps, priority, new_tokens=new_tokens)
        requests.append(one)
    return requests


def geometric(mean: float, cap: int) -> Draw:
    """Whole numbers from 1, each as likely as the last times 1 - 1 / mean."""

    def draw(rnd: random.Random) -> float:
        return min(cap, 1 + int(math.log(1 - rnd.random()) / math.log(1 - 1 / mean)))

    return draw


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
    return [replace(request, id=number) for number, request in enumerate(ordered)]


def _arrival(request: Request) -> float:
    return request.arrived_at
