"""Tuning by hand, as a patient person would: one knob after the other, each at the best value so far of the others. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from loadtests.peers.peer import Knob, Tuning

_WORTH = 1.02
"""Less than 2 % more is no reason to leave what a server comes with."""

_QUEUES = (0.1, 0.25, 0.5, 0.75, 1.0)
"""Bounds of the queue as shares of what can be answered within the objective, rate x SLO."""

_TIMEOUTS = (0.3, 0.5, 0.7, 0.9)
"""As shares of the objective."""

_BATCHES = (1, 8, 16, 32, 64, 128)
_WAITS_MS = (0.0, 1.0, 2.0, 5.0)
_WORKERS = (1, 2)

Measure = Callable[[Tuning], float]
"""A way to run a model → its goodput; 0 for one that does not run."""


@dataclass(frozen=True, slots=True)
class Swept:
    """The best way to run a model under overload, and the goodput of all that were tried, in their order."""

    best: Tuning
    tried: Mapping[Tuning, float]


def values(rate: float, slo_s: float, batches: bool) -> dict[Knob, Sequence[float]]:
    """What each knob may be turned to, for a server that reaches `rate`. `batches`: whether the model's inputs can be joined at all."""
    return {
        Knob.QUEUE: sorted({max(1, round(share * rate * slo_s)) for share in _QUEUES}),
        Knob.TIMEOUT: [round(share * slo_s * 1e3, 1) for share in _TIMEOUTS],
        Knob.BATCH: _BATCHES if batches else (),
        Knob.WAIT: _WAITS_MS if batches else (),
        Knob.WORKERS: _WORKERS,
    }


def sweep(start: Tuning, knobs: Sequence[Knob], allowed: Mapping[Knob, Sequence[float]], measure: Measure) -> Swept:
    """Turn the knobs in their order, and then the first one again: its best value may have moved."""
    tried = {start: measure(start)}
    best = start
    for knob in [*knobs, *knobs[:1]]:
        for candidate in _turned(best, knob, allowed[knob]):
            if candidate in tried:
                continue
            tried[candidate] = measure(candidate)
            if tried[candidate] > _WORTH * tried[best]:
                tried[candidate] = min(tried[candidate], measure(candidate))  # once may be luck
            if tried[candidate] > _WORTH * tried[best]:
                best = candidate
    return Swept(best, tried)


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
