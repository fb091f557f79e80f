"""The highest Poisson rate whose p99 is within the SLO: brackets and bisects, and each try is judged by MLPerf's rule.

Everything that is not answered in time counts against a rate: refusals, failures, timeouts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from loadtests.early_stopping import CONFIDENCE, Decision, confidence_of, decide, queries_needed
from loadtests.environment import environment
from loadtests.errors import CannotConnect
from loadtests.probe import Prober
from loadtests.tally import punctuality, tally, tolerance_s

PERCENTILE = 0.99
_PRECISION = 1.03
_MOST_LOOKS = 4
_CONFIRMING = 4
_CONFIRMING_SEED = 1_000_000
_MOST_STEPS = 10
_MOST_TRIES = 40
_WIDE = 2.0
_LOWEST_RATE = 4.0
"""Below it one try takes minutes."""


@dataclass(frozen=True, slots=True)
class Counted:
    """One load: how many queries, how many of them missed, and whether the generator sent them when it should."""

    n: int
    missed: int
    kept_up: bool


@dataclass(frozen=True, slots=True)
class Try:
    """All loads at one rate together, and what they say. `kept_up` is false if the generator was the limit."""

    rate: float
    n: int
    missed: int
    decision: str
    confidence: float
    kept_up: bool

    @property
    def holds(self) -> bool:
        return self.decision == Decision.HOLDS.value and self.kept_up


@dataclass(frozen=True, slots=True)
class Found:
    """`rate` is the highest that held and was confirmed by `best` (0 and None if none was), `above` the lowest that did
    not (None if none was reached)."""

    slo_s: float
    rate: float
    above: float | None
    tries: Sequence[Try]
    best: Try | None

    @property
    def limited(self) -> bool:
        """Whether the lowest rate that did not hold failed for the generator's sake."""
        return any(one.rate == self.above and not one.kept_up for one in self.tries)


Measure = Callable[[float, int, int], Counted]
"""(rate, at least so many queries, seed) → what one load counted."""


def find_capacity(
    prober: Prober,
    slo_s: float,
    probe_s: float,
    first_rate: float | None,
    *,
    first_step: float = _WIDE,
    longest_s: float = math.inf,
) -> Found:
    """Search with real loads of `probe_s` or longer, but of no more than `longest_s`.

    `first_step` is near 1 where `first_rate` is a good guess.
    """

    def measure(rate: float, n: int, seed: int) -> Counted:
        loaded = prober.load(rate, min(longest_s, max(probe_s, 1.1 * n / rate)), seed)
        if loaded.generated.interrupted:
            raise KeyboardInterrupt
        if not (loaded.generated.record.status > 0).any():
            raise CannotConnect(
                f"no request at {rate:.1f}/s got a reply: {'; '.join(loaded.generated.record.reasons[1:]) or 'timeout'}"
            )
        counts = tally(loaded.generated.record, slo_s)
        return Counted(counts.scheduled, counts.missed, punctuality(loaded.generated.record, tolerance_s(slo_s)).kept_up)

    return search(measure, slo_s, first_rate or 100.0, first_step)


def search(measure: Measure, slo_s: float, first_rate: float, first_step: float = _WIDE) -> Found:
    """Go up or down from `first_rate` until the capacity is between two rates, bisect to within 3 %, then confirm.

    The first step is a factor of `first_step`, and each further one its square, up to 2: a wrong guess must not cost many tries.
    """
    tries: list[Try] = []
    low, high = 0.0, math.inf
    rate, step = max(first_rate, _LOWEST_RATE), first_step
    while len(tries) < _MOST_TRIES and rate >= _LOWEST_RATE and high / max(low, 1e-9) > _PRECISION:
        one = judge(measure, rate, seed=1000 * len(tries))
        if not one.kept_up:
            one = judge(measure, rate, seed=1000 * len(tries) + 500)  # a neighbour may have taken the processor
        tries.append(one)
        if one.holds:
            low = rate
        else:
            high = rate
        rate = low * step if high == math.inf else high / step if not low else math.sqrt(low * high)
        step = min(_WIDE, step * step)
    above = None if high == math.inf else high
    best = _confirm(measure, low, tries) if low else None
    if best is not None and best.rate < low:
        above = min(one.rate for one in tries if one.rate > best.rate and not one.holds)
    return Found(slo_s, best.rate if best is not None else 0.0, above, tries, best)


def _confirm(measure: Measure, rate: float, tries: list[Try]) -> Try | None:
    """Load four times longer at the rate found, and a step lower until it holds.

    A search takes the luckiest of its tries, and queueing makes one late request follow another, where the rule counts
    on chance alone: only a long run that nothing was chosen by shows what holds.
    """
    n = _CONFIRMING * max(one.n for one in tries if one.rate == rate)
    for step in range(_MOST_STEPS):
        counted = measure(rate, n, _CONFIRMING_SEED + step)
        one = _try(rate, counted, decide(counted.missed, counted.n, PERCENTILE))
        tries.append(one)
        if one.holds:
            return one
        rate /= _PRECISION
    return None


def _try(rate: float, counted: Counted, decision: Decision) -> Try:
    confidence = confidence_of(counted.missed, counted.n, PERCENTILE)
    return Try(rate, counted.n, counted.missed, decision.value, confidence, counted.kept_up)


def judge(measure: Measure, rate: float, seed: int) -> Try:
    """Load at a rate until it is clear whether it holds, four times at most."""
    n = missed = 0
    kept_up, decision = True, Decision.OPEN
    for look in range(_MOST_LOOKS):
        one = measure(rate, queries_needed(0, PERCENTILE), seed + look)
        n, missed, kept_up = n + one.n, missed + one.missed, kept_up and one.kept_up
        decision = decide(missed, n, PERCENTILE)
        if decision is not Decision.OPEN or not kept_up:
            break
    return _try(rate, Counted(n, missed, kept_up), decision)


def capacity_result(found: Found, configuration: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON content of a search. Valid if a rate held and the generator was not the limit."""
    return {
        "kind": "capacity",
        "configuration": dict(configuration),
        "environment": environment(),
        "capacity": capacity_values(found),
        "notices": ["the generator was the limit: the server's capacity may be higher (--processes)"] if found.limited else [],
        "valid": found.rate > 0 and not found.limited,
    }


def capacity_values(found: Found) -> dict[str, Any]:
    """A search as values for JSON."""
    return {
        "slo_ms": found.slo_s * 1e3,
        "rate": found.rate,
        "above": found.above,
        "percentile": PERCENTILE,
        "required_confidence": CONFIDENCE,
        "confidence": found.best.confidence if found.best is not None else None,
        "tries": [asdict(one) for one in found.tries],
    }
