"""Time by operator, from events as the profiler writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from optimizer.errors import OptimizeError
from optimizer.inspection.operators import read_runs, time_by_operator, write_trace


def node(ts: int, dur: int, operator: str) -> dict[str, Any]:
    arguments = {"op_name": operator, "provider": "CPUExecutionProvider"}
    return {
        "cat": "Node",
        "ph": "X",
        "pid": 1,
        "tid": 1,
        "ts": ts,
        "dur": dur,
        "name": f"{operator}_1_kernel_time",
        "args": arguments,
    }


def run(ts: int) -> dict[str, Any]:
    return {"cat": "Session", "ph": "X", "pid": 1, "tid": 1, "ts": ts, "dur": 90, "name": "model_run", "args": {}}


EVENTS = [
    {"cat": "Session", "ph": "X", "ts": 0, "dur": 50, "name": "session_initialization", "args": {}},
    node(105, 1000, "MatMul"), run(100),
    node(205, 30, "MatMul"), node(240, 10, "Add"), run(200),
    node(305, 50, "MatMul"), node(360, 10, "Add"), run(300),
]  # fmt: skip


def test_warming_up_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "trace.json").write_text(json.dumps(EVENTS))
    events = read_runs(tmp_path / "trace.json", 2)
    assert [event["ts"] for event in events] == [205, 240, 200, 305, 360, 300]
    found = time_by_operator(events, 2)
    assert [(one.operator, one.n_calls) for one in found] == [("MatMul", 1), ("Add", 1)]
    assert found[0].seconds == pytest.approx(40e-6)
    assert found[0].share == pytest.approx(0.8)


def test_a_disturbed_run_does_not_count() -> None:
    events = [node(ts, dur, "MatMul") for ts, dur in ((0, 20), (100, 9000), (200, 22))]
    assert time_by_operator(events, 3)[0].seconds == pytest.approx(22e-6)


def test_two_nodes_of_an_operator_add_up() -> None:
    other = {**node(50, 30, "MatMul"), "name": "MatMul_2_kernel_time"}
    (found,) = time_by_operator([node(0, 20, "MatMul"), other], 1)
    assert (found.n_calls, found.seconds) == (2, pytest.approx(50e-6))


def test_too_few_runs_are_refused(tmp_path: Path) -> None:
    (tmp_path / "trace.json").write_text(json.dumps(EVENTS))
    with pytest.raises(OptimizeError, match="wrote 3 runs of 4"):
        read_runs(tmp_path / "trace.json", 4)


def test_a_trace_is_an_object_with_events(tmp_path: Path) -> None:
    write_trace(tmp_path / "out.json", EVENTS)
    assert json.loads((tmp_path / "out.json").read_text())["traceEvents"] == EVENTS
    with pytest.raises(OptimizeError, match="give another --trace"):
        write_trace(tmp_path / "nosuch" / "out.json", EVENTS)


def test_no_operators_are_no_time() -> None:
    assert time_by_operator([run(0)], 1) == []
