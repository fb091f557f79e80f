"""How much load can be offered: the search for the highest rate at which nearly all answers are in time, and what ends it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache

from server.simulation.arrivals import Shaped, Trace
from server.simulation.play import Played, Setting, Version, play
from server.simulation.traffic import Traffic

IN_SLO = 0.99
"""Share of all requests that must be answered in time; MLPerf's and `ferry loadtest`'s."""

LEAST_SLOS = 50.0
"""A try lasts at least so many SLOs, because a queue that is a little too fast takes long to fill."""

GLANCE = 0.125
HOPELESS = 0.95
"""A try that has a share below this after so much of it is not carried on."""

N_SAMPLES = 200
_PRECISION = 1.01
_LEAST = 1 / 500
_STEP = 1.25
_BUSY = 0.85


class Limit(Enum):
    """What ends the capacity; `value` says it in words."""

    DEVICE = "the model's time on the device"
    LOOP = "the event loop: reading requests and writing answers"
    SLO = "the SLO: more load would mean more waiting than it allows, though nothing is busy all the time"
    ALONE = "the SLO: requests that are served alone, without any waiting, are late"


@dataclass(frozen=True, slots=True)
class Capacity:
    """The highest multiple of the rates asked for at which every kind of traffic has its share in time, and the run that shows it (at ALONE:
    the one that shows that there is none)."""

    factor: float
    limit: Limit
    played: Played


def capacity(setting: Setting, traffic: Sequence[Traffic], n_requests: int) -> Capacity:
    """In steps until it is between two factors, then by bisection; each try has about so many requests, and the same ones at every rate."""

    @cache
    def attempt(factor: float) -> Played:
        lasting_s, begins_s = lasts_s(traffic, factor, n_requests), max(one.start_s for one in traffic)
        glance = play(setting, traffic, factor, begins_s + GLANCE * (lasting_s - begins_s))
        is_hopeless = any(one.in_slo_share < HOPELESS for one in glance.traffic)
        return glance if is_hopeless else play(setting, traffic, factor, lasting_s)

    full = low = _full(setting, traffic)
    while not is_kept(attempt(low)):
        low /= _STEP
        if low < _LEAST * full:
            return Capacity(0.0, Limit.ALONE, attempt(low))
    high = _STEP * low
    while is_kept(attempt(high)):
        low, high = high, _STEP * high
    while high / low > _PRECISION:
        middle = math.sqrt(low * high)
        if is_kept(attempt(middle)):
            low = middle
        else:
            high = middle
    found = attempt(low)
    return Capacity(low * _more(found, traffic, low), _limit(found), found)


def is_kept(played: Played) -> bool:
    """Whether every kind of traffic has its share in time."""
    return all(one.in_slo_share >= IN_SLO for one in played.traffic)


def lasts_s(traffic: Sequence[Traffic], factor: float, n_requests: int) -> float:
    """How long a run takes that has so many requests, or LEAST_SLOS. A trace takes its own time."""
    traces = [one.arrivals.due_s[-1] / factor for one in traffic if isinstance(one.arrivals, Trace)]
    if traces:
        return max(traces)
    rate = factor * sum(one.rate for one in traffic)
    longest_s = max(one.slo_s for one in traffic)
    return max(one.start_s for one in traffic) + max(n_requests / rate, min(LEAST_SLOS * longest_s, 10 * n_requests / rate))


def _full(setting: Setting, traffic: Sequence[Traffic]) -> float:
    """The factor at which the devices are full if all batches are of the best size, by the profile."""
    versions = {one.key: one for one in setting.versions}
    return 1 / (setting.slower * sum(one.rate * _request_s(versions[one.model], one) for one in traffic))


def _request_s(version: Version, traffic: Traffic) -> float:
    """Seconds of the whole device for one request, in the mean."""
    lengths = traffic.some_lengths(N_SAMPLES)
    row_s = sum(version.costs.row_s(length) for length in lengths) / len(lengths)
    return traffic.rows * row_s / version.placement.instances


def _more(played: Played, traffic: Sequence[Traffic], factor: float) -> float:
    """How many times more requests chance has sent than were to be expected: they are what was kept."""
    expected = sum(
        factor * one.rate * _mean(one.arrivals, lasting_s) * lasting_s
        for one, figures in zip(traffic, played.traffic, strict=True)
        if (lasting_s := figures.duration_s - one.start_s) > 0
    )
    return sum(figures.scheduled for figures in played.traffic) / expected


def _mean(arrivals: Shaped | Trace, lasting_s: float) -> float:
    """Of the shape over such a time: a ramp's, or that of a burst which is cut in its period, need not be 1."""
    if isinstance(arrivals, Trace):
        return 1.0
    began_at, total = 0.0, 0.0
    for end_at, factor in arrivals.shape.steps(lasting_s):
        total += factor * (end_at - began_at)
        began_at = end_at
    return total / lasting_s


def _limit(played: Played) -> Limit:
    if played.loop_busy >= _BUSY:
        return Limit.LOOP
    shared = sum(share for share in played.device_busy.values())
    return Limit.DEVICE if shared >= _BUSY else Limit.SLO
