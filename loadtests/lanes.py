"""One thing to measure against one running server, over and over: its requests, its connections, its samples."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np

from loadtests import cpu
from loadtests.child import HOST, Child
from loadtests.closed_loop import drive
from loadtests.errors import LoadTestError
from loadtests.protocols import Protocol
from loadtests.tensors import Array
from loadtests.wire import Head, Response

_VERIFY_CONNECTIONS = 4


@dataclass(frozen=True, slots=True)
class Lane:
    """A named closed loop: `requests` in a cycle over `connections` connections to `server`."""

    name: str
    server: Child
    requests: Sequence[bytes]
    connections: int
    protocol: Protocol = Protocol.HTTP


@dataclass(frozen=True, slots=True)
class Sample:
    """One round of a lane. `cpu_us` is the CPU time of the server's process tree per answer, `own_us` the driver's."""

    per_s: float
    cpu_us: float
    p50_ms: float
    p99_ms: float
    own_us: float
    n_answered: int
    n_refused: int
    n_failed: int


def measure(lane: Lane, duration_s: float) -> Sample:
    """Drive a lane for `duration_s` seconds. Raises CannotConnect."""
    before_s = cpu.cpu_s(lane.server.pid)
    result = drive(
        HOST,
        lane.server.port,
        lane.requests,
        connections=lane.connections,
        duration_s=duration_s,
        protocol=lane.protocol,
    )
    spent_s = cpu.cpu_s(lane.server.pid) - before_s
    return Sample(
        per_s=result.throughput,
        cpu_us=spent_s / max(1, result.answered) * 1e6,
        p50_ms=result.p50 * 1e3,
        p99_ms=result.p99 * 1e3,
        own_us=result.own_cpu_s / max(1, result.sent) * 1e6,
        n_answered=result.answered,
        n_refused=result.n_refused,
        n_failed=result.failed,
    )


def median(samples: Sequence[Sample]) -> Sample:
    """The median of every figure on its own; the counts are sums."""
    if not samples:
        raise ValueError("no samples")
    merged = {}
    for name in (field.name for field in fields(Sample)):
        column = [getattr(one, name) for one in samples]
        merged[name] = sum(column) if name.startswith("n_") else statistics.median(column)
    return Sample(**merged)


TOLERANCE = 1e-3
"""Of an answer, beside that of the same model file in process: sums of float32 in another order."""


def verify(lane: Lane, expected: Callable[[int], Mapping[str, Array]], n: int) -> float:
    """Ask the lane's first `n` requests and compare the answers with `expected(index)`, output by output.

    Returns the largest difference, absolute for values up to 1 and relative above. Raises LoadTestError for an answer other than 200, with
    other outputs or shapes than expected, or more than TOLERANCE away from that.
    """
    wrong: list[LoadTestError] = []
    worst = [0.0]

    def compare(index: int, status: int, headers: Mapping[str, str], body: bytes) -> None:
        try:
            outputs = lane.protocol.decode(Response(Head(status, headers, len(body), False), body))
            worst.append(_difference(lane.name, outputs, expected(index)))
        except LoadTestError as error:
            wrong.append(error)

    requests = lane.requests[:n]
    connections = min(_VERIFY_CONNECTIONS, lane.connections)
    result = drive(
        HOST,
        lane.server.port,
        requests,
        connections=connections,
        n_requests=len(requests),
        on_answer=compare,
        protocol=lane.protocol,
    )
    if wrong or result.failed:
        reason = wrong[0] if wrong else f"{result.failed} of {result.sent} requests got no reply"
        raise LoadTestError(f"{lane.name}: wrong answers: {reason}")
    return max(worst)


def _difference(name: str, found: Mapping[str, Array], wanted: Mapping[str, Array]) -> float:
    shapes = [{key: one.shape for key, one in outputs.items()} for outputs in (found, wanted)]
    if shapes[0] != shapes[1]:
        raise LoadTestError(f"{name} answered {shapes[0]} where {shapes[1]} was expected")
    most = max((largest_difference(found[key], one) for key, one in wanted.items()), default=0.0)
    if most > TOLERANCE:
        raise LoadTestError(f"{name} is {most:.2g} away from what was expected, where {TOLERANCE:g} is allowed")
    return most


def largest_difference(found: Array, wanted: Array) -> float:
    """Absolute for values up to 1 and relative above; what is no number is as far away as can be."""
    apart = np.abs(found - wanted) / np.maximum(1.0, np.abs(wanted))
    return float(np.max(np.nan_to_num(apart, nan=np.inf), initial=0.0))
