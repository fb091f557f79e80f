"""What an overload did to a server, from the time line of a run: goodput before, during and after, and when all was well again. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from loadtests.tally import Bin

_ALLOWED_MISSES = 0.01
_TOLERANCE = 1.25
"""A step is normal up to this multiple of the worst p99 that was seen before the overload."""


@dataclass(frozen=True, slots=True)
class Phases:
    """When the overload begins and ends, in seconds of the run; the first `settle_s` of the run are not looked at."""

    settle_s: float
    begins_s: float
    ends_s: float


@dataclass(frozen=True, slots=True)
class Recovery:
    """`normal_ms` is what a step's p99 must keep to after the overload; `after_s` when from its end on it did, None if never.

    None for `normal_ms` if there was no normal step before.
    """

    normal_ms: float | None
    after_s: float | None


def recovery(steps: Sequence[Bin], phases: Phases, calm_s: float) -> Recovery:
    """The first moment after the overload from which all is normal for `calm_s`: one bad step much later is not its doing."""
    before = [one for one in steps if phases.settle_s <= one.at_s < phases.begins_s]
    known = [one.p99_ms for one in before if one.p99_ms is not None and _few_misses(one)]
    if not known:
        return Recovery(None, None)
    normal_ms = _TOLERANCE * max(known)
    calm = [_few_misses(one) and one.p99_ms is not None and one.p99_ms <= normal_ms for one in steps]
    step_s = steps[1].at_s - steps[0].at_s
    n = max(1, round(calm_s / step_s))
    for at, one in enumerate(steps):
        if one.at_s >= phases.ends_s - step_s / 2 and at + n <= len(steps) and all(calm[at : at + n]):
            return Recovery(normal_ms, max(0.0, one.at_s - phases.ends_s))
    return Recovery(normal_ms, None)


def _few_misses(one: Bin) -> bool:
    return one.in_slo >= (1 - _ALLOWED_MISSES) * one.offered


def goodput_per_s(steps: Sequence[Bin], from_s: float, to_s: float) -> float | None:
    """Mean goodput of the steps that begin in an interval; None if there is none."""
    found = [one.in_slo for one in steps if from_s <= one.at_s < to_s]
    return statistics.mean(found) if found else None
