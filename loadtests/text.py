"""Results as lines for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loadtests.capacity import Found
from loadtests.report import number, table

_HEADER = (
    "",
    "offered/s",
    "goodput/s",
    "in SLO",
    "p50 ms",
    "p95 ms",
    "p99 ms",
    "p99 with misses",
    "late",
    "refused",
    "failed",
    "timed out",
    "never sent",
)


def summary(content: Mapping[str, Any]) -> str:
    """What a run found, as a table and sentences."""
    lines = [_line(name, one) for name, one in content["traffic"].items()]
    parts = [
        content["kind"],
        table(_HEADER, lines),
        *_reasons(content),
        *_lengths(content),
        _generator(content),
        *_server(content),
    ]
    return "\n".join([*parts, *(f"! {one}" for one in content["notices"])])


def _line(name: str, one: Mapping[str, Any]) -> list[str]:
    counts, latency = one["counts"], one["latency_ms"]
    return [
        name,
        number(one["offered_per_s"], 1),
        number(one["goodput_per_s"], 1),
        f"{one['in_slo_share']:.2%}",
        *(number(latency[q], 2) for q in ("p50", "p95", "p99")),
        number(one["latency_with_misses_ms"]["p99"], 2),
        number(counts["late"]),
        number(sum(counts["refused"].values())),
        number(sum(counts["failed"].values())),
        number(counts["timed_out"]),
        number(counts["never_sent"]),
    ]


def _reasons(content: Mapping[str, Any]) -> list[str]:
    return [
        f"{name}: {what} {n:,} x {reason}"
        for name, one in content["traffic"].items()
        for what in ("refused", "failed")
        for reason, n in one["counts"][what].items()
    ]


def _lengths(content: Mapping[str, Any]) -> list[str]:
    return [
        f"{name}: inputs of length {', '.join(f'{what} {number(value)}' for what, value in one['lengths'].items())}"
        for name, one in content["traffic"].items()
        if one["lengths"] is not None
    ]


def _generator(content: Mapping[str, Any]) -> str:
    one = content["generator"]
    return (
        f"generator: {one['processes']} process(es), {one['connections']} connections, {one['cpu_us_per_request']:.1f} us CPU "
        f"per request; sends late by p50 {number(one['p50_ms'], 2)} ms, p99 {number(one['p99_ms'], 2)} ms, at most {number(one['max_ms'], 2)} ms"
    )


def _server(content: Mapping[str, Any]) -> list[str]:
    one = content["server"]
    if one is None or one["died"]:
        return []
    return [
        f"server: process {one['pid']} and its children, {number(one['cpu_us_per_reply'], 1)} us CPU per reply, "
        f"{number(one['cpu_cores'], 2)} cores, memory {one['rss_before'] / 1e6:.0f} -> {one['rss_after'] / 1e6:.0f} MB"
    ]


def closed_text(content: Mapping[str, Any]) -> str:
    """What a closed loop found."""
    one, server = content["closed"], content["server"]
    latency = ", ".join(f"{name} {number(ms, 2)} ms" for name, ms in one["latency_ms"].items())
    lines = [
        content["kind"],
        f"{one['connections']} connections: {one['per_s']:,.1f} answers/s, {latency}",
        f"sent {one['sent']:,}: answered {one['answered']:,}, refused {one['refused'] or 0}, failed {one['failed']:,}, "
        f"timed out {one['timed_out']:,}",
        f"generator: {one['own_cpu_us_per_request']:.1f} us CPU per request",
    ]
    if server is not None:
        lines.append(
            f"server: process {server['pid']}, {server['cpu_us_per_reply']:.1f} us CPU per reply, {server['cpu_cores']:.2f} cores"
        )
    return "\n".join([*lines, *(f"! {one}" for one in content["notices"])])


def capacity_text(found: Found) -> str:
    """How a search went, and what it found."""
    header = ("rate/s", "queries", "missed", "share", "decision", "confidence", "generator")
    lines = [
        [
            f"{one.rate:,.1f}",
            number(one.n),
            number(one.missed),
            f"{one.missed / max(1, one.n):.2%}",
            one.decision,
            f"{one.confidence:.4f}",
            "kept up" if one.kept_up else "LATE",
        ]
        for one in found.tries
    ]
    slo = f"p99 within {found.slo_s * 1e3:g} ms"
    if found.best is None:
        return f"{table(header, lines)}\nno rate down to {found.tries[-1].rate:.1f}/s holds {slo}"
    above = f"; {found.above:,.1f}/s is not shown to hold" if found.above is not None else ""
    best = found.best
    return (
        f"{table(header, lines)}\ncapacity: {found.rate:,.1f}/s holds {slo} with {best.confidence:.2%} confidence "
        f"({best.missed:,} of {best.n:,} missed){above}"
    )


def sweep_text(content: Mapping[str, Any]) -> str:
    """A sweep as a table."""
    header = ("x capacity", "offered/s", "goodput/s", "in SLO", "p50 ms", "p99 ms", "refused", "failed", "timed out", "")
    lines = [
        [
            f"{one['factor']:g}",
            number(one["offered_per_s"], 1),
            number(one["goodput_per_s"], 1),
            f"{one['in_slo_share']:.2%}",
            number(one["latency_ms"]["p50"], 2),
            number(one["latency_ms"]["p99"], 2),
            number(sum(one["counts"]["refused"].values())),
            number(sum(one["counts"]["failed"].values())),
            number(one["counts"]["timed_out"]),
            "" if one["valid"] else "VOID",
        ]
        for one in content["sweep"]
    ]
    return "\n".join([table(header, lines), *(f"! {one}" for one in content["notices"])])
