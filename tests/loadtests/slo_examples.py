"""Finished results of the benchmarks of the objective, one of each kind. Tests only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from loadtests.verdicts import Side, Verdict, verdict_values

_HEAD = {
    "command": "python -m loadtests.bench_slo", "options": {"rows": 16, "connections": 1024},
    "environment": {"cpu": "Some CPU", "cores": 2, "git_commit": "0123456789abcdef+changes"},
}  # fmt: skip


def load(goodput_per_s: float, p99_ms: float | None, refused: int = 0, kept_up: bool = True) -> dict[str, Any]:
    """One load at a fixed rate."""
    return {
        "goodput_per_s": goodput_per_s, "latency_ms": {"p99": p99_ms}, "refused": refused, "scheduled": 1000, "generator_late": 3,
        "generator_kept_up": kept_up, "work_in_slo_per_s": 0.9 * goodput_per_s, "refused_after_waiting": refused // 10,
    }  # fmt: skip


def visit(own_per_s: float, goodput_per_s: float, kept_up: bool = True) -> dict[str, Any]:
    """One visit to one contestant."""
    return {"reason": None, "own_per_s": own_per_s, "overload": load(goodput_per_s, 40.0, 300, kept_up)}


def broken(reason: str) -> dict[str, Any]:
    """One that failed."""
    return {"reason": reason}


def episode(
    kept: float, recovered_after_s: float | None, rss: Sequence[int | None] = (100, 105, 104), kept_up: bool = True
) -> dict[str, Any]:
    """One run before, during and after an overload."""
    counts = dict.fromkeys(("late", "refused", "failed", "timed_out", "never_sent", "sent_late_by_generator"), 1)
    rates = {"scheduled_per_s": 1500.0, "sent_per_s": 1400.0, "goodput_per_s": 900.0}
    phases = {
        name: {**counts, **rates, "latency_ms": {"p99": 30.0}, "most_rss": most, "generator_kept_up": kept_up}
        for name, most in zip(("before", "during", "after"), rss, strict=True)
    }
    return {"kept": kept, "recovered_after_s": recovered_after_s, "phases": phases, "generator_kept_up": kept_up, "void": []}


def contents() -> dict[str, dict[str, Any]]:
    """By kind."""
    verdicts = verdict_values([Verdict("a claim", 0.9, Side.AT_LEAST, 0.95)])
    loads = {"1": [load(99.0, 40.0)], "2": [load(98.0, 45.0, 500)], "4": [load(96.0, None, 750)]}
    summary = {
        "offline_per_s": 110.0, "capacity_per_s": 100.0, "goodput_per_s": {"1": 99.0, "2": 98.0, "4": 96.0},
        "p99_ms": {"1": 40.0, "2": 45.0, "4": None},
    }  # fmt: skip
    tuned = {
        "terms": {"n_rows": 16, "slo_s": 0.05}, "in_process_rows_per_s": 5e5, "ways": {"fast, tuned": "queue of 40"},
        "sweeps": {"fast": {"reason": None}, "gone": {"reason": "it\nfell"}},
        "rounds": [{"ferry": visit(100.0, 90.0), "fast, tuned": visit(200.0, 100.0)}, {"ferry": visit(100.0, 80.0), "fast, tuned": broken("x")}],
    }  # fmt: skip
    peers = {"fast": {"label": "Fast", "reason": None}, "lost": {"label": "Lost", "reason": "no such package"}}
    return {
        "slo": {"kind": "slo", **_HEAD, "verdicts": verdicts, "subjects": {"m": {"slo_ms": 50.0, "summary": summary, "loads": loads}}},
        "overload": {
            "kind": "overload", **_HEAD, "verdicts": verdicts, "normal_share": 0.5, "in_process_rows_per_s": 5e5, "closed_loop": {"connections": 64, "per_s": 1000.0}, "rounds": [{"1.5": episode(0.9, 0.25), "3": episode(0.6, None, kept_up=False)}],
        },
        "tuned": {"kind": "tuned", **_HEAD, "verdicts": verdicts, "factor": 1.5, "peers": peers, "subjects": {"digits": tuned}},
    }  # fmt: skip
