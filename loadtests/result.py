"""A load as plain values for JSON, and what is to be said about it in words: nothing flatters in here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from loadtests.clients import Clients
from loadtests.environment import environment
from loadtests.ledger import FAILED, Record
from loadtests.load import Loaded
from loadtests.tally import histogram, punctuality, quantiles_ms, tally, time_line, tolerance_s, with_misses_ms
from loadtests.verify import WRONG

OPEN_LOOP = "open loop: latency counts from the intended send time"
CLOSED_LOOP = "closed loop: it stops offering load when the server stalls; no statement about latency at a given rate"
_LENGTHS = {"min": 0.0, "p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
_BUSY = 0.8
"""Share of the time above which a generator is itself the limit."""


def result(loaded: Loaded, configuration: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON content of a load."""
    record = loaded.generated.record
    slos_s = [one.slo_s for one in loaded.traffic if one.slo_s is not None]
    kept = punctuality(record, tolerance_s(min(slos_s, default=None)))
    content = {
        "kind": OPEN_LOOP,
        "configuration": dict(configuration),
        "environment": environment(),
        "duration_s": loaded.duration_s,
        "traffic": {one.name: traffic(loaded, at) for at, one in enumerate(loaded.traffic)},
        "generator": asdict(kept)
        | {
            "kept_up": kept.kept_up,
            "processes": loaded.generator.processes,
            "connections": loaded.generated.n_connections,
            "max_connections": loaded.generator.max_connections,
            "clients": loaded.generator.clients.value,
            "niceness": loaded.generated.niceness,
            "busy_share": loaded.generated.cpu_s / max(1e-9, loaded.generated.wall_s * loaded.generator.processes),
            "cpu_us_per_request": loaded.generated.cpu_s / max(1, len(record.status)) * 1e6,
        },
        "server": _server(loaded),
        "interrupted": loaded.generated.interrupted,
    }
    sound = kept.kept_up and not loaded.generated.interrupted and bool((record.status > FAILED).any())
    return content | {"notices": notices(content, record), "valid": sound and not _wrong(record)}


def _wrong(record: Record) -> int:
    """How many answers were not what --verify expects."""
    wrong = [number for number, text in enumerate(record.reasons) if text.startswith(WRONG)]
    return int(np.isin(record.reason, wrong).sum())


def traffic(loaded: Loaded, at: int) -> dict[str, Any]:
    """Counts, latencies and time line of one kind of traffic."""
    one, record = loaded.traffic[at], loaded.record(at)
    counts = tally(record, one.slo_s)
    assert counts.adds_up, f"{counts} does not add up"
    span_s = max(loaded.duration_s, 1e-9)
    answered = record.done_s[record.status == 200]
    return {
        "slo_ms": None if one.slo_s is None else one.slo_s * 1e3,
        "counts": asdict(counts),
        "offered_per_s": counts.scheduled / span_s,
        "answered_per_s": counts.answered / span_s,
        "goodput_per_s": counts.in_slo / span_s,
        "in_slo_share": counts.in_slo / max(1, counts.scheduled),
        "latency_ms": quantiles_ms(record),
        "latency_with_misses_ms": {name: with_misses_ms(record, q) for name, q in (("p95", 0.95), ("p99", 0.99))},
        "first_answer_s": float(answered.min()) if answered.size else None,
        "last_answer_s": float(answered.max()) if answered.size else None,
        "verified": one.verifier is not None,
        "lengths": _lengths(loaded, at),
        "histogram": histogram(record),
        "time_line": [asdict(step) for step in time_line(record, one.slo_s, loaded.duration_s)],
    }


def _lengths(loaded: Loaded, at: int) -> dict[str, float] | None:
    """Of the requests as scheduled, in tokens or bytes of text."""
    one = loaded.traffic[at]
    if not one.lengths:
        return None
    drawn = np.asarray(one.lengths)[one.which]
    return {"mean": float(drawn.mean()), **{name: float(np.quantile(drawn, q)) for name, q in _LENGTHS.items()}}


def _server(loaded: Loaded) -> dict[str, Any] | None:
    cost = loaded.server
    if cost is None:
        return None
    n_replied = int((loaded.generated.record.status > FAILED).sum())
    return {
        "pid": cost.pid,
        "died": cost.died,
        "cpu_us_per_reply": None if cost.died or not n_replied else cost.cpu_s / n_replied * 1e6,
        "cpu_cores": None if cost.died else cost.cpu_s / max(1e-9, loaded.generated.wall_s),
        "rss_before": cost.memory_before.rss,
        "rss_after": cost.memory_after.rss,
    }


def notices(content: Mapping[str, Any], record: Record) -> list[str]:
    """What a reader must know before the figures."""
    generator, found = content["generator"], []
    if content["interrupted"]:
        found.append("the run was interrupted: this is what there was until then")
    if not generator["kept_up"]:
        found.append(
            f"VOID: the generator could not keep up: {generator['late']} of {generator['sent']} requests went out more than "
            f"{generator['tolerance_s'] * 1e3:g} ms late; it was busy {generator['busy_share']:.0%} of the time, so {_cure(generator)}"
        )
    elif generator["late"]:
        found.append(
            f"{generator['late']} of {generator['sent']} sends were late by more than {generator['tolerance_s'] * 1e3:g} ms"
        )
    if generator["held_back"] and generator["clients"] == Clients.INDEPENDENT.value:
        found.append(f"{generator['held_back']} sends waited for their own client's connection: the wait is in the latencies")
    elif generator["held_back"]:
        found.append(
            f"{generator['held_back']} sends waited for one of {generator['max_connections']} connections: the wait is in "
            "the latencies, but the server saw less load than was offered (--connections)"
        )
    if (server := content["server"]) is not None and server["died"]:
        found.append(f"the server's process {server['pid']} died during the run")
    if n_wrong := _wrong(record):
        found.append(f"{n_wrong} answers were wrong")
    return found + _silence(record, content["duration_s"])


def _cure(generator: Mapping[str, Any]) -> str:
    if generator["busy_share"] > _BUSY:
        return "use --processes or a lower rate"
    first = "" if generator["niceness"] < 0 else ", let it go before them (CAP_SYS_NICE)"
    return f"others on this machine kept it from the processor: stop them{first}, or generate the load elsewhere"


def _silence(record: Record, duration_s: float) -> list[str]:
    """Whether the end of the run got no reply at all."""
    replied_s = record.due_s[record.status > FAILED]
    if not replied_s.size:
        return ["no request got a reply: is this the right address?"]
    last_s = float(replied_s.max())
    n_after = int((record.due_s > last_s).sum())
    if n_after >= 3 and np.all(record.status[record.due_s > last_s] <= FAILED) and last_s < 0.95 * duration_s:
        return [
            f"no reply to anything due after {last_s:.2f} s of {duration_s:.2f} s ({n_after} requests): the server went away"
        ]
    return []
