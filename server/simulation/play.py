"""A run of versions under traffic, and the figures drawn from it: what `ferry simulate` tells."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from server.contract.profile import Placement, Profile
from server.core.costs import CostTable
from server.core.types import Limits, Mixing, ModelKey
from server.simulation.drawn import Drawn
from server.simulation.station import Served, Station
from server.simulation.tally import Tally
from server.simulation.traffic import Crowd, Traffic, crowd
from server.simulation.wire import HAND_OVER_S, Wire

QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
MOST_LOOP = 0.9
"""Of one core: the event loop never takes so much from the instances that they stand still."""


@dataclass(frozen=True, slots=True)
class Version:
    """One version as the server would serve it."""

    key: ModelKey
    profile: Profile
    placement: Placement
    costs: CostTable
    limits: Limits
    mixing: Mixing
    device: str | None
    wire: Wire

    @property
    def inline(self) -> bool:
        """Whether all its batches run on the event loop."""
        return self.costs.is_brief(self.limits.batch_rows, self.profile.measured_lengths[-1])

    def served(self, rnd: random.Random, slower: float) -> Served:
        """Ready to be simulated, on a device so many times slower than profiled."""
        limits = self.limits
        return Served(
            self.costs, self.key, self.mixing, self.placement.instances, limits.ahead, limits.queue_rows,
            Drawn(self.profile, rnd, slower), None, HAND_OVER_S, self.device, self.wire,
        )  # fmt: skip

    def crowded(self, cores_taken: float) -> float:
        """How many times longer batches take while all instances run and so many cores do other work."""
        wanted = self.placement.instances * self.placement.threads
        left = max(0.1, self.profile.device.cores - cores_taken)
        return max(1.0, min(wanted, self.profile.device.cores) / left)


@dataclass(frozen=True, slots=True)
class Setting:
    """What stays the same from run to run. `slower`: how many times slower than profiled the device is; `beside`: how many cores other
    programs use."""

    versions: Sequence[Version]
    seed: int = 0
    slower: float = 1.0
    beside: float = 0.0


@dataclass(frozen=True, slots=True)
class Figures:
    """What became of one kind of traffic. Rates are per second of the run, latencies in seconds from when a request was due."""

    scheduled: int
    in_slo: int
    late: int
    refused: int
    duration_s: float
    latency_s: Mapping[str, float | None]
    with_misses_s: Mapping[str, float | None]

    @property
    def answered(self) -> int:
        return self.in_slo + self.late

    @property
    def in_slo_share(self) -> float:
        return self.in_slo / max(1, self.scheduled)


@dataclass(frozen=True, slots=True)
class Batches:
    """So many batches of one size, which took so long in all."""

    rows: int
    n: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Played:
    """A run: figures by traffic, batches by model and size, busy shares of 1 by model (of all its instances) and of the event loop."""

    traffic: Sequence[Figures]
    batches: Mapping[ModelKey, Sequence[Batches]]
    device_busy: Mapping[ModelKey, float]
    loop_busy: float

    def mean_batch(self, model: ModelKey) -> float:
        """Its rows; 0 where none ran."""
        sizes = self.batches[model]
        return sum(one.n * one.rows for one in sizes) / max(1, sum(one.n for one in sizes))


def play(setting: Setting, traffic: Sequence[Traffic], factor: float, duration_s: float) -> Played:
    """All traffic at `factor` times its rates, for so long."""
    rnd = random.Random(f"{setting.seed} device")
    asked = crowd(traffic, factor, duration_s, setting.seed)
    taken = setting.beside + min(MOST_LOOP, _loop_share(setting, asked, duration_s))
    models = [one.served(rnd, setting.slower * (1.0 if one.inline else one.crowded(taken))) for one in setting.versions]
    tally = Station(models).run(asked.requests)
    span_s = max(duration_s, tally.now)
    batches = {one.key: _batches(tally, one.key) for one in setting.versions}
    return Played(
        [_figures(at, one, tally, asked, duration_s) for at, one in enumerate(traffic)],
        batches,
        {
            one.key: sum(size.seconds for size in batches[one.key]) / one.placement.instances / span_s
            for one in setting.versions
        },
        tally.loop_s / span_s,
    )


def _batches(tally: Tally, model: ModelKey) -> list[Batches]:
    return [Batches(rows, n, seconds) for (key, rows), (n, seconds) in sorted(tally.ran.items()) if key == model]


def _loop_share(setting: Setting, asked: Crowd, duration_s: float) -> float:
    """Cores that reading and answering all of it takes."""
    wires = {one.key: one.wire for one in setting.versions}
    work_s = 0.0
    for request in asked.requests:
        wire = wires[request.model]
        work_s += wire.read.of(request.rows, request.length) + wire.reply.of(request.rows, request.length)
    return work_s / duration_s


def _figures(at: int, traffic: Traffic, tally: Tally, asked: Crowd, duration_s: float) -> Figures:
    of = asked.of_traffic
    latency_s = sorted(when - request.arrived_at for request, when in tally.answered if of[request.id] == at)
    refused = sum(of[request.id] == at for request in tally.refused)
    in_slo = sum(one <= traffic.slo_s for one in latency_s)
    scheduled = len(latency_s) + refused
    return Figures(
        scheduled, in_slo, len(latency_s) - in_slo, refused, duration_s,
        {name: _quantile(latency_s, share, len(latency_s)) for name, share in QUANTILES.items()},
        {name: _quantile(latency_s, QUANTILES[name], scheduled) for name in ("p95", "p99")},
    )  # fmt: skip


def _quantile(ordered: Sequence[float], share: float, n: int) -> float | None:
    """Of `n` values, of which those that are missing are the largest (nearest rank); None if it is one of them."""
    place = max(0, math.ceil(share * n) - 1)
    return ordered[place] if place < len(ordered) else None
