"""The dashboard as data: its panels, their queries, and the queries as Prometheus gets them. For its tests and its live check."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
DASHBOARD = ROOT / "deploy" / "grafana" / "dashboards" / "ferry.json"


@dataclass(frozen=True, slots=True)
class Query:
    """One line of one panel, with its variables."""

    row: str
    panel: str
    expression: str
    legend: str

    def filled(self, model: str = ".*", window: str = "1m") -> str:
        """What Grafana sends once the variables have values."""
        return self.expression.replace("$model", model).replace("$__rate_interval", window)


def dashboard() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return content


def panels() -> list[dict[str, Any]]:
    """Rows left out."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def queries() -> Iterator[Query]:
    row = ""
    for panel in dashboard()["panels"]:
        if panel["type"] == "row":
            row = panel["title"]
            continue
        for target in panel["targets"]:
            yield Query(row, panel["title"], target["expr"], target["legendFormat"])
