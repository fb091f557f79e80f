"""The closed loop as a mode of `ferry loadtest`: for cost and peak rate, and labelled as what it is."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from loadtests import cpu
from loadtests.closed_loop import Result, drive
from loadtests.environment import environment
from loadtests.errors import CannotConnect
from loadtests.job import Job
from loadtests.result import CLOSED_LOOP
from loadtests.wire import Head, Response


def closed_result(
    job: Job, connections: int, duration_s: float, pid: int | None, configuration: Mapping[str, Any]
) -> dict[str, Any]:
    """Drive a job as fast as the server answers, and tell it as JSON content."""
    wrong: list[str] = []

    def check(index: int, status: int, headers: Mapping[str, str], body: bytes) -> None:
        if status == 200 and job.verifier is not None:
            why = job.verifier(index, Response(Head(status, headers, len(body), False), body))
            wrong.extend([why] if why else [])

    before_s, started_at = cpu.cpu_s(pid) if pid else 0.0, time.perf_counter()
    found = drive(
        *job.target.address,
        job.requests,
        connections=connections,
        duration_s=duration_s,
        on_answer=check if job.verifier is not None else None,
        protocol=job.target.protocol,
    )
    spent_s, wall_s = (cpu.cpu_s(pid) if pid else 0.0) - before_s, time.perf_counter() - started_at
    return _content(found, wrong, configuration) | {
        "server": {
            "pid": pid,
            "cpu_us_per_reply": spent_s / max(1, found.answered + found.n_refused) * 1e6,
            "cpu_cores": spent_s / wall_s,
        }
        if pid
        else None,
    }


def _content(found: Result, wrong: list[str], configuration: Mapping[str, Any]) -> dict[str, Any]:
    if not found.sent:
        raise CannotConnect("the closed loop sent nothing")
    latencies_ms = np.quantile(found.latencies_s, [0.5, 0.9, 0.95, 0.99]) * 1e3 if found.answered else [None] * 4
    notices = [f"{len(wrong)} {wrong[0]}"] if wrong else []
    return {
        "kind": CLOSED_LOOP,
        "configuration": dict(configuration),
        "environment": environment(),
        "closed": {
            "connections": found.connections,
            "sent": found.sent,
            "answered": found.answered,
            "wrong": len(wrong),
            "refused": {str(status): n for status, n in found.refused.items()},
            "failed": found.failed,
            "timed_out": found.timed_out,
            "per_s": found.throughput,
            "latency_ms": dict(zip(("p50", "p90", "p95", "p99"), map(_plain, latencies_ms), strict=True)),
            "own_cpu_us_per_request": found.own_cpu_s / found.sent * 1e6,
        },
        "notices": notices,
        "valid": found.answered > 0 and not wrong,
    }


def _plain(value: Any) -> float | None:
    return None if value is None else float(value)
