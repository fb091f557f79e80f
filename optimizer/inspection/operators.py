"""Time by operator, from events as ONNX Runtime's profiler writes them. Reads and writes events; runs nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from optimizer.errors import OptimizeError

Event = Mapping[str, Any]
"""One of the Trace Event Format: `ts` and `dur` in microseconds."""

RUN = "model_run"
NODE = "Node"
KERNEL = "_kernel_time"
"""What ONNX Runtime calls a run, the category of a node, and the end of the name of its own time."""


@dataclass(frozen=True, slots=True)
class OperatorTime:
    """An operator type on one provider: how often in one run, and for how many seconds of it; `share` of all operators' time."""

    operator: str
    provider: str
    n_calls: float
    seconds: float
    share: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def read_runs(path: Path, n_runs: int) -> list[Event]:
    """The events of the last `n_runs` runs in a profiler's file; loading and warming up come before them.

    Raises OptimizeError when the file holds fewer.
    """
    events: list[Event] = json.loads(path.read_text(encoding="utf-8"))
    starts = sorted(event["ts"] for event in events if event.get("name") == RUN)
    if len(starts) < n_runs:
        raise OptimizeError(f"{path.name}: the profiler wrote {len(starts)} runs of {n_runs}; ask for fewer with --runs")
    return [event for event in events if event.get("ph") == "X" and event["ts"] >= starts[-n_runs]]


def time_by_operator(events: Sequence[Event], n_runs: int) -> list[OperatorTime]:
    """The slowest first. A node's time is the median of its calls, so that a run which was disturbed does not count."""
    nodes: dict[tuple[str, str, str], list[float]] = {}
    for event in events:
        if event.get("cat") == NODE and str(event["name"]).endswith(KERNEL):
            arguments = event["args"]
            key = arguments["op_name"], arguments.get("provider", ""), event["name"]
            nodes.setdefault(key, []).append(event["dur"] * 1e-6)
    spent: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for (operator, provider, _), times in nodes.items():
        n_calls = len(times) / n_runs
        spent.setdefault((operator, provider), []).append((n_calls, n_calls * median(times)))
    total = sum(seconds for found in spent.values() for _, seconds in found) or 1.0
    operators = [
        OperatorTime(operator, provider, sum(n for n, _ in found), seconds := sum(time for _, time in found), seconds / total)
        for (operator, provider), found in spent.items()
    ]
    return sorted(operators, key=lambda one: one.seconds, reverse=True)


def write_trace(path: Path, events: Sequence[Event]) -> None:
    """For chrome://tracing and Perfetto. Raises OptimizeError when it cannot be written."""
    try:
        path.write_text(json.dumps({"traceEvents": list(events), "displayTimeUnit": "ms"}), encoding="utf-8")
    except OSError as error:
        raise OptimizeError(f"{path}: cannot be written: {error.strerror}; give another --trace") from None
