"""A server at a fixed rate, perhaps far above what it can do: an open loop, and what came back in time. Values for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from loadtests import cpu
from loadtests.arrivals import Spacing, Steady, schedule
from loadtests.child import HOST, Child
from loadtests.generators import Tick
from loadtests.load import Generator, Traffic, load
from loadtests.tally import Tally, part, punctuality, quantiles_ms, tally, tolerance_s

_SETTLE = 0.25
"""The first part of a load is not counted: queues that grow for ever begin empty."""

_WAITED = 0.25
"""Who is refused later than this share of the objective after it was due has waited for nothing."""

_CONNECTIONS = 1024
_LEAST_TIMEOUT_S = 2.0
_TIMEOUT_SLOS = 4


@dataclass(frozen=True, slots=True)
class Offer:
    """Poisson arrivals at `rate` for `duration_s`, of which those answered within `slo_s` count."""

    rate: float
    slo_s: float
    duration_s: float
    seed: int


def overload(server: Child, requests: Sequence[bytes], offer: Offer, work: Sequence[float] = ()) -> dict[str, Any]:
    """Make an offer; its figures leave the first quarter out. `work`: what each of `requests` asks of the device, as a multiple of the
    mean; empty where all are alike. Raises CannotConnect, ChildFailed.
    """
    due_s = schedule(Steady(), Spacing.POISSON, offer.rate, offer.duration_s, offer.seed)
    which = np.arange(len(due_s), dtype=np.int64) % len(requests)
    traffic = Traffic("overload", requests, due_s, which, offer.slo_s)
    loaded = load(
        (HOST, server.port),
        [traffic],
        Generator(1, _CONNECTIONS, max(_LEAST_TIMEOUT_S, _TIMEOUT_SLOS * offer.slo_s)),
        duration_s=offer.duration_s,
        server_pid=server.pid,
        on_tick=untold,
    )
    if loaded.generated.interrupted:
        raise KeyboardInterrupt  # half a load is no figure
    record = loaded.record(0)
    is_counted = record.due_s >= _SETTLE * offer.duration_s
    counted, counted_s = part(record, is_counted), (1 - _SETTLE) * offer.duration_s
    counts = tally(counted, offer.slo_s)
    in_slo, refused = (
        (counted.status == 200) & (counted.latency_s <= offer.slo_s),
        (counted.status > 0) & (counted.status != 200),
    )
    kept = punctuality(counted, tolerance_s(offer.slo_s))
    return {
        "offered_per_s": offer.rate,
        "sent_per_s": kept.sent / counted_s,
        "goodput_per_s": counts.in_slo / counted_s,
        "work_in_slo_per_s": float(np.asarray(work or [1.0] * len(requests))[which[is_counted][in_slo]].sum()) / counted_s,
        **shares(counts),
        "refused_after_waiting": int((refused & (counted.latency_s > _WAITED * offer.slo_s)).sum()),
        "latency_ms": quantiles_ms(counted),
        "generator_kept_up": kept.kept_up,
        "generator_late": kept.late,
        "generator_niceness": loaded.generated.niceness,
        "memory_after": cpu.memory(server.pid).rss,
    }


def shares(counts: Tally) -> dict[str, Any]:
    """Counts by kind, errors by reason, and the share that was answered in time."""
    return {
        "goodput_share": counts.in_slo / max(1, counts.scheduled),
        "scheduled": counts.scheduled,
        "in_slo": counts.in_slo,
        "late": counts.late,
        "refused": counts.n_refused,
        "failed": counts.n_failed,
        "timed_out": counts.timed_out,
        "never_sent": counts.never_sent,
        "reasons": {**counts.refused, **counts.failed},
    }


def untold(tick: Tick) -> None:
    """Progress that nobody watches: who measures many loads tells of each when it has ended."""
