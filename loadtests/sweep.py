"""Goodput and latency from far below to far above the capacity: what a server does when it is asked for too much."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from loadtests.capacity import Found, capacity_values
from loadtests.environment import environment
from loadtests.probe import Prober
from loadtests.result import result

FACTORS = (0.1, 0.25, 0.5, 0.75, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 3.0, 4.0)
_PAUSE_S = 0.5


def sweep(
    prober: Prober, capacity: float, probe_s: float, found: Found | None, configuration: Mapping[str, Any]
) -> dict[str, Any]:
    """A load of `probe_s` at each factor of the capacity, lowest first, with a pause in between."""
    points = []
    for factor in FACTORS:
        one = result(prober.load(factor * capacity, probe_s, seed=int(1000 * factor)), configuration)
        points.append(_point(factor, factor * capacity, one))
        if one["interrupted"]:
            break
        time.sleep(_PAUSE_S)
    late = [point["factor"] for point in points if not point["valid"]]
    notices = (
        [f"VOID at {', '.join(f'{one:g}x' for one in late)}: the generator could not keep up (--processes)"] if late else []
    )
    return {
        "kind": "sweep of open loops",
        "configuration": dict(configuration),
        "environment": environment(),
        "capacity": capacity_values(found) if found is not None else _told(capacity, prober.job.wanted.slo_s),
        "sweep": points,
        "notices": notices,
        "valid": not late,
    }


def _told(capacity: float, slo_s: float | None) -> dict[str, Any]:
    """A capacity that was not searched for."""
    slo_ms = None if slo_s is None else slo_s * 1e3
    return {"slo_ms": slo_ms, "rate": capacity, "above": None, "confidence": None, "tries": []}


def _point(factor: float, rate: float, content: Mapping[str, Any]) -> dict[str, Any]:
    (one,) = content["traffic"].values()
    return {
        "factor": factor,
        "rate": rate,
        "offered_per_s": one["offered_per_s"],
        "goodput_per_s": one["goodput_per_s"],
        "in_slo_share": one["in_slo_share"],
        "latency_ms": one["latency_ms"],
        "counts": one["counts"],
        "server": content["server"],
        "notices": content["notices"],
        "valid": content["valid"],
    }
