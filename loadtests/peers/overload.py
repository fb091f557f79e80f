"""A server at a multiple of its own maximum: an open loop, and the share of what was offered that came back in time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from loadtests import cpu
from loadtests.arrivals import Spacing, Steady, schedule
from loadtests.child import HOST, Child
from loadtests.generators import Tick
from loadtests.load import Generator, Traffic, load
from loadtests.tally import part, punctuality, quantiles_ms, tally, tolerance_s

_SETTLE = 0.25
"""The first part of a load is not counted: queues that grow for ever begin empty."""

_CONNECTIONS = 1024
_TIMEOUT_S = 2.0


def overload(
    server: Child, requests: Sequence[bytes], rate: float, slo_s: float, duration_s: float, seed: int
) -> dict[str, Any]:
    """Offer Poisson arrivals at `rate`; values for JSON. Raises CannotConnect, ChildFailed."""
    due_s = schedule(Steady(), Spacing.POISSON, rate, duration_s, seed)
    which = np.arange(len(due_s), dtype=np.int64) % len(requests)
    traffic = Traffic("overload", requests, due_s, which, slo_s)
    loaded = load(
        (HOST, server.port),
        [traffic],
        Generator(1, _CONNECTIONS, _TIMEOUT_S),
        duration_s=duration_s,
        server_pid=server.pid,
        on_tick=_nothing,
    )
    record = loaded.record(0)
    counted = part(record, record.due_s >= _SETTLE * duration_s)
    counts = tally(counted, slo_s)
    return {
        "offered_per_s": rate,
        "goodput_share": counts.in_slo / max(1, counts.scheduled),
        "scheduled": counts.scheduled,
        "in_slo": counts.in_slo,
        "late": counts.late,
        "refused": counts.n_refused,
        "failed": counts.n_failed,
        "timed_out": counts.timed_out,
        "latency_ms": quantiles_ms(counted),
        "generator_kept_up": punctuality(counted, tolerance_s(slo_s)).kept_up,
        "memory_after": cpu.memory(server.pid).rss,
    }


def _nothing(tick: Tick) -> None:
    """Progress is told per visit."""
