"""Every query of the dashboard parses and asks for metrics and labels that the server has; every panel can be read by who is called at night."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from server.backends.nvidia import CardReading
from server.core.forecast import Forecast
from server.core.types import ModelKey
from server.runtime.clock import monotonic_clock
from server.runtime.served_decoder import Occupied
from server.simulation.laws import linear_costs
from server.telemetry.metrics import Metrics, Objective
from server.telemetry.model_stats import ModelStats
from tests.deploy.panels import ROOT, Query, dashboard, panels, queries

KEY = ModelKey("any", 1)
OF_A_SCRAPE = {"job": {"ferry"}, "instance": {"ferry:8002"}}
UNITS = {"percentunit", "s", "reqps", "ops", "bytes", "watt", "short", "none"}
FUNCTIONS = {"sum", "max", "by", "on", "rate", "time", "or", "histogram_quantile"}
Labels = dict[str, set[str]]


class Lane(NamedTuple):
    forecast: Forecast


@pytest.fixture(scope="module")
def exported() -> dict[str, Labels]:
    """Sample name → label → its values, of a server with a model, one that generates, and a card."""
    metrics = Metrics(monotonic_clock)
    stats = ModelStats(KEY, metrics.open(KEY))
    stats.promise({objective: 1.0 for objective in Objective}, 1)
    stats.costs_from("published")
    stats.follow(Lane(Forecast(linear_costs(0.001, 0.004, 4))))
    metrics.generating.bind(KEY, Occupied())
    metrics.watch_card(lambda: CardReading("A card", "GPU-7", 0.4, 3, 80, 312.5, 700.0))
    found: dict[str, Labels] = {}
    for family in metrics.registry.collect():
        for sample in family.samples:
            labels = found.setdefault(sample.name, {name: set(values) for name, values in OF_A_SCRAPE.items()})
            for name, value in sample.labels.items():
                labels.setdefault(name, set()).add(value)
    return found


ALL = tuple(queries())
each_query = pytest.mark.parametrize("query", ALL, ids=[f"{one.panel}: {one.legend}" for one in ALL])
each_panel = pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])


def groups(expression: str) -> set[str]:
    """Labels that are summed or matched by."""
    return {name for found in re.findall(r"\b(?:by|on) \(([^)]*)\)", expression) for name in re.split(r",\s*", found)}


def selected(expression: str) -> list[tuple[str, dict[str, str]]]:
    """Metric and the labels it is chosen by, for each selector."""
    plain = re.sub(r"\b(?:by|on) \([^)]*\)", " ", expression)
    found = re.findall(r"([a-z_]{3,})\b(?!\s*\()(?:\{([^}]*)\})?", re.sub(r"\[[^\]]*\]", "", plain))
    return [(name, dict(re.findall(r'(\w+)=~?"([^"]*)"', chosen))) for name, chosen in found if name not in FUNCTIONS]


@each_query
def test_every_metric_is_one_that_the_server_has_and_has_those_labels(query: Query, exported: dict[str, Labels]) -> None:
    found = selected(query.expression)
    assert found
    assert [name for name, _ in found if name not in exported] == []
    for name, chosen in found:
        has = exported[name]
        assert set(chosen) | groups(query.expression) - {"le"} <= set(has), name
        assert [value for label, value in chosen.items() if value != "$model" and value not in has[label]] == [], name
    if "le" in groups(query.expression):
        assert any(name.endswith("_bucket") for name, _ in found)


@each_query
def test_legends_name_labels_that_are_left(query: Query) -> None:
    named = set(re.findall(r"\{\{(\w+)\}\}", query.legend))
    grouped = groups(query.expression) - {"le"}
    whole = "sum(" in query.expression
    assert named == (grouped or (set() if whole else {"instance"}))


@each_query
def test_what_has_a_model_is_chosen_by_the_variable(query: Query, exported: dict[str, Labels]) -> None:
    of_models = [(name, chosen) for name, chosen in selected(query.expression) if "model" in exported[name]]
    assert [name for name, chosen in of_models if chosen.get("model") != "$model"] == []


def test_the_checks_above_see_what_is_wrong(exported: dict[str, Labels]) -> None:
    assert selected('sum by (model) (rate(ferry_lost_total{model=~"$model"}[$__rate_interval])) / ferry_slo') == [
        ("ferry_lost_total", {"model": "$model"}),
        ("ferry_slo", {}),
    ]
    assert "ferry_late" not in exported, "a counter is asked for with its _total"
    assert groups("sum by (model, le) (a) / on (reason) b") == {"model", "le", "reason"}


def test_prometheus_parses_every_query(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed: queries were compared with the server's metrics, not parsed")
    rules = [{"record": f"panel:{n}", "expr": query.filled()} for n, query in enumerate(ALL)]
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    ran = subprocess.run([promtool, "check", "rules", tmp_path / "rules.yml"], check=False, capture_output=True, text=True)
    assert (ran.returncode, f"{len(ALL)} rules found" in ran.stdout) == (0, True), ran.stdout + ran.stderr


@each_panel
def test_panels_have_a_unit_and_say_what_to_do(panel: dict[str, Any]) -> None:
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
    assert len(panel["description"]) > 60
    assert panel["type"] in {"stat", "timeseries"}, "a panel of Grafana's own, no plugin"
    assert panel["targets"]
    assert {panel["datasource"]["uid"], *(target["datasource"]["uid"] for target in panel["targets"])} == {"${datasource}"}
    references = [target["refId"] for target in panel["targets"]]
    assert len(set(references)) == len(references)
    dashed = {override["matcher"]["options"] for override in panel["fieldConfig"]["overrides"]}
    assert dashed <= set(references)


def test_rules_and_commands_that_descriptions_name_are_there() -> None:
    told = " ".join(panel["description"] for panel in panels())
    alerts = set(re.findall(r"alert: (\w+)", (ROOT / "deploy" / "prometheus" / "alerts.yml").read_text()))
    assert set(re.findall(r"\bFerry[A-Z]\w+", told)) <= alerts
    titles = {panel["title"] for panel in panels()} | {row["title"] for row in dashboard()["panels"] if row["type"] == "row"}
    assert {name for name in re.findall(r"(?<!\w)'([A-Z][^']+)'", told)} <= titles | {"Measured ÷ profiled"}
    assert set(re.findall(r"`ferry (\w+)", told)) == {"explain", "plan", "optimize"}


def test_ids_and_titles_are_unique_and_panels_do_not_overlap() -> None:
    every = dashboard()["panels"]
    for what in ("id", "title"):
        assert [name for name, count in Counter(panel[what] for panel in every).items() if count > 1] == []
    for one, other in combinations([panel["gridPos"] for panel in every], 2):
        apart = [
            one[at] + one[size] <= other[at] or other[at] + other[size] <= one[at] for at, size in (("x", "w"), ("y", "h"))
        ]
        assert any(apart), (one, other)
    assert max(panel["gridPos"]["x"] + panel["gridPos"]["w"] for panel in every) <= 24


def test_variables_are_the_source_and_the_model(exported: dict[str, Labels]) -> None:
    source, model = dashboard()["templating"]["list"]
    assert (source["name"], source["type"], source["query"]) == ("datasource", "datasource", "prometheus")
    (asked,) = re.findall(r"label_values\((\w+), model\)", model["query"]["query"])
    assert "model" in exported[asked]
    used = {name for query in ALL for name in re.findall(r"\$(\w+)", query.expression)}
    assert used <= {"model", "__rate_interval"}
    assert dashboard()["schemaVersion"] >= 39  # Grafana 11's
