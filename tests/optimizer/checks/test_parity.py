"""Differences are measured as the gate and the report need them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from optimizer.checks.parity import compare
from optimizer.plot import latency_plot
from optimizer.report import parity_table
from server.contract.device import Device
from server.contract.profile import Cell, Placement, Profile

NAN = float("nan")
INF = float("inf")


def floats(*values: float) -> Any:
    return np.array(values, np.float32)


@pytest.mark.parametrize(
    ("found", "wanted", "worst", "passes"),
    [
        (floats(1, 2), floats(1, 2), 0.0, True),
        (floats(1, 2.5), floats(1, 2), 0.5, False),
        (floats(1000.5), floats(1000), 0.5, True),
        (floats(NAN), floats(1), None, False),
        (floats(NAN), floats(NAN), 0.0, True),
        (floats(INF), floats(INF), 0.0, True),
        (floats(INF), floats(1), INF, False),
        (floats(1, 2), floats(1), None, False),
        (np.array([1]), floats(1), None, False),
        (np.array([3]), np.array([5]), 2.0, False),
    ],
)
def test_compare(found: Any, wanted: Any, worst: float | None, passes: bool) -> None:
    gap, over = compare(found, wanted)
    assert gap == worst
    assert (over <= 1) is passes


def test_the_table_shows_the_worst_of_all_outputs() -> None:
    def cell(output: str, rows: int, kind: str, worst: float | None, excess: float) -> dict[str, Any]:
        return {"output": output, "rows": rows, "length": 8, "kind": kind, "worst": worst, "excess": excess}

    table = parity_table([cell("a", 2, "full", 1e-6, 0.1), cell("b", 2, "full", 2e-6, 0.2), cell("a", 2, "padded", None, INF)])
    assert table.columns == ["length 8"]
    assert table.lines == [("2 rows", [("2.0e-06", "good")]), ("2 rows, padded", [("NaN, shape or type", "bad")])]


@pytest.mark.parametrize("rows", [(1,), (1, 2, 4)])
def test_the_plot_draws_any_grid(rows: tuple[int, ...]) -> None:
    cells = tuple(Cell(r, n, 0.001 * r, 0.002 * r, 0.003 * r, 3, 0) for r in rows for n in (3, 8))
    plot = latency_plot(Profile(Device("cpu", 1, "none 1"), Placement(1, 1), cells))
    assert plot.count("<polyline") == 2
    assert "length 8" in plot
    assert "nan" not in plot
