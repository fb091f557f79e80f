"""Simulations in words, tables and values for JSON. Nothing is decided here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from server.contract.durations import format_duration
from server.simulation.capacity import IN_SLO, Capacity, Limit
from server.simulation.play import Figures, Played, Version
from server.simulation.traffic import Traffic

_HEADER = (
    "", "offered/s", "answered/s", "goodput/s", "in SLO", "p50 ms", "p95 ms", "p99 ms", "late", "refused", "rows/batch",
    "device busy", "loop busy",
)  # fmt: skip


def who(version: Version, traffic: Sequence[Traffic]) -> str:
    """The version and what it is served on, in a line."""
    slos = sorted({one.slo_s for one in traffic if one.model == version.key})
    placement, device = version.placement, version.profile.device
    if version.inline:
        where = "on the event loop"
    else:
        where = f"{n_of(placement.instances, 'instance')} of {n_of(placement.threads, 'thread')}"
    return (
        f"{version.key}: SLO {' and '.join(map(format_duration, slos))}, {where}, batches of up to {n_of(version.limits.batch_rows, 'row')}; "
        f"profile of {device.processor}, {n_of(device.cores, 'core')}"
    )


def capacity_lines(found: Capacity, traffic: Sequence[Traffic]) -> list[str]:
    """The capacity and what limits it."""
    if found.limit is Limit.ALONE:
        shares = ", ".join(f"{one.in_slo_share:.1%}" for one in found.played.traffic)
        return [
            f"capacity: none; {found.limit.value}: only {shares} within the SLO. Allow more time, send less at once, or use a faster model"
        ]
    rates = " and ".join(f"{found.factor * one.rate:,.1f}/s of {one.name}" for one in traffic)
    return [f"capacity: {rates}, with {IN_SLO:.0%} of all requests in the SLO", f"limited by {found.limit.value}"]


def run_table(traffic: Sequence[Traffic], runs: Sequence[tuple[float | None, Played]]) -> str:
    """A line per run and traffic."""
    lines = []
    for load, played in runs:
        for one, figures in zip(traffic, played.traffic, strict=True):
            name = one.name if load is None else f"{one.name} at {load:g}x"
            lines.append(_line(name, one, figures, played))
    return table(_HEADER, lines)


def _line(name: str, traffic: Traffic, figures: Figures, played: Played) -> list[str]:
    latency = figures.latency_s
    return [
        name,
        f"{figures.scheduled / figures.duration_s:,.1f}",
        f"{figures.answered / figures.duration_s:,.1f}",
        f"{figures.in_slo / figures.duration_s:,.1f}",
        f"{figures.in_slo_share:.2%}",
        *(ms(latency[q]) for q in ("p50", "p95", "p99")),
        f"{figures.late:,}",
        f"{figures.refused:,}",
        f"{played.mean_batch(traffic.model):.2f}",
        f"{played.device_busy[traffic.model]:.0%}",
        f"{played.loop_busy:.0%}",
    ]


def run_values(traffic: Sequence[Traffic], played: Played, factor: float, load: float | None) -> dict[str, Any]:
    """A run for JSON."""
    return {
        "factor": factor,
        "load": load,
        "traffic": {one.name: _values(one, figures) for one, figures in zip(traffic, played.traffic, strict=True)},
        "device_busy": {str(model): share for model, share in played.device_busy.items()},
        "batches": {
            str(model): [{"rows": one.rows, "n": one.n, "mean_ms": one.seconds / one.n * 1e3} for one in sizes]
            for model, sizes in played.batches.items()
        },
        "loop_busy": played.loop_busy,
    }


def _values(traffic: Traffic, figures: Figures) -> dict[str, Any]:
    span_s = figures.duration_s
    return {
        "slo_ms": traffic.slo_s * 1e3,
        "counts": {
            "scheduled": figures.scheduled, "in_slo": figures.in_slo, "late": figures.late,
            "refused": {"503": figures.refused} if figures.refused else {}, "failed": {}, "timed_out": 0, "never_sent": 0,
        },
        "offered_per_s": figures.scheduled / span_s,
        "answered_per_s": figures.answered / span_s,
        "goodput_per_s": figures.in_slo / span_s,
        "in_slo_share": figures.in_slo_share,
        "latency_ms": _all_ms(figures.latency_s),
        "latency_with_misses_ms": _all_ms(figures.with_misses_s),
    }  # fmt: skip


def table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell: the first one to the left, the others to the right."""
    widths = [max(len(line[at]) for line in (header, *lines)) for at in range(len(header))]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))])
        for line in (header, *lines)
    )


def _all_ms(values_s: Mapping[str, float | None]) -> dict[str, float | None]:
    return {name: None if value is None else value * 1e3 for name, value in values_s.items()}


def ms(seconds: float | None) -> str:
    """A latency in a table."""
    return "-" if seconds is None else f"{seconds * 1e3:,.2f}"


def n_of(n: int, what: str) -> str:
    """`1 machine`, `2 machines`."""
    return f"{n} {what}{'' if n == 1 else 's'}"
