"""Tuning by hand, as a patient person would: one knob after the other, each at the best value so far of the others. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from loadtests.errors import LoadTestError
from loadtests.peers.peer import Knob, Tuning
from loadtests.peers.ready import reason

_WORTH = 1.02
"""Less than 2 % more is no reason to leave what a server comes with."""

_QUEUES = (0.1, 0.25, 0.5, 0.75, 1.0)
"""Bounds of the queue as shares of what can be answered within the objective, rate x SLO."""

_TIMEOUTS = (0.3, 0.5, 0.7, 0.9)
"""As shares of the objective."""

_WORKERS = (1, 2)

_FINALISTS = 5
_FINALS = 2
"""What counts is the median of a first look and so many more, in turns: one look may be luck, good or bad."""

Measure = Callable[[Tuning], float]
"""A way to run a model → its goodput. Raises LoadTestError for one that does not run."""


@dataclass(slots=True)
class Tried:
    """One way: its goodput each time, or why it did not run."""

    goodput: list[float]
    reason: str | None = None

    @property
    def counts(self) -> float:
        return statistics.median(self.goodput) if self.goodput and self.reason is None else 0.0


@dataclass(frozen=True, slots=True)
class Swept:
    """The best way to run a model under overload, and all that were tried, in their order."""

    best: Tuning
    tried: Mapping[Tuning, Tried]

    @property
    def goodput(self) -> float:
        return self.tried[self.best].counts


def values(rate: float, slo_s: float, batches: Sequence[int], waits_ms: Sequence[float]) -> dict[Knob, Sequence[float]]:
    """What each knob may be turned to, for a server that reaches `rate` requests per second, and that can wait so long for a batch."""
    return {
        Knob.QUEUE: sorted({max(1, round(share * rate * slo_s)) for share in _QUEUES}),
        Knob.TIMEOUT: [round(share * slo_s * 1e3, 1) for share in _TIMEOUTS],
        Knob.BATCH: batches,
        Knob.WAIT: waits_ms,
        Knob.WORKERS: _WORKERS,
    }


def sweep(start: Tuning, knobs: Sequence[Knob], allowed: Mapping[Knob, Sequence[float]], measure: Measure) -> Swept:
    """Turn the knobs in their order, and then the first one again: its best value may have moved. Then the best few against each other."""
    tried: dict[Tuning, Tried] = {}
    best = start
    _look(tried, start, measure)
    for knob in [*knobs, *knobs[:1]]:
        for candidate in _turned(best, knob, allowed[knob]):
            if candidate in tried:
                continue
            _look(tried, candidate, measure)
            if tried[candidate].counts > _WORTH * tried[best].counts:
                best = candidate
    finalists = sorted(tried, key=lambda one: tried[one].counts, reverse=True)[:_FINALISTS]
    for _ in range(_FINALS if len(tried) > 1 else 0):
        for one in dict.fromkeys([start, *finalists]):
            _look(tried, one, measure)
    first = max(finalists, key=lambda one: tried[one].counts)
    return Swept(first if tried[first].counts > _WORTH * tried[start].counts else start, tried)


def _look(tried: dict[Tuning, Tried], one: Tuning, measure: Measure) -> None:
    found = tried.setdefault(one, Tried([]))
    if found.reason is None:
        try:
            found.goodput.append(measure(one))
        except LoadTestError as error:
            found.reason = reason(error)


def _turned(tuning: Tuning, knob: Knob, allowed: Sequence[float]) -> list[Tuning]:
    if knob is Knob.WAIT and tuning.max_batch == 1:
        return []  # nothing waits where nothing is joined
    return [_with(tuning, knob, value) for value in allowed]


def _with(tuning: Tuning, knob: Knob, value: float) -> Tuning:
    match knob:
        case Knob.QUEUE:
            return replace(tuning, queue=int(value))
        case Knob.TIMEOUT:
            return replace(tuning, timeout_ms=value)
        case Knob.BATCH:
            return replace(tuning, max_batch=int(value))
        case Knob.WAIT:
            return replace(tuning, wait_ms=value)
        case Knob.WORKERS:
            return replace(tuning, workers=int(value))
