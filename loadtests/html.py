"""A result as one HTML file that needs nothing else: counts, plots, notices, configuration and machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from loadtests.plots import Series, axis, histogram, line_chart
from loadtests.report import number

_TEMPLATE = "report.html.j2"


def write_html(file: Path, content: Mapping[str, Any]) -> Path:
    """Write the report and return its path."""
    file.write_text(render(content))
    return file


def render(content: Mapping[str, Any]) -> str:
    """The page of a result of any kind."""
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined)
    environment.filters["number"] = number
    plots = {name: [Markup(one) for one in traffic_plots(found)] for name, found in content.get("traffic", {}).items()}
    sweep = [Markup(one) for one in sweep_plots(content)] if content.get("sweep") else []
    return environment.get_template(_TEMPLATE).render(result={**_EMPTY, **content}, plots=plots, sweep_plots=sweep)


_EMPTY: Mapping[str, Any] = {
    "traffic": {}, "sweep": [], "capacity": None, "closed": None, "server": None, "generator": None, "scenario": None,
}  # fmt: skip


def traffic_plots(one: Mapping[str, Any]) -> list[str]:
    """Latency distribution and time line of one kind of traffic."""
    slo = [] if one["slo_ms"] is None else [(f"SLO {one['slo_ms']:g} ms", one["slo_ms"])]
    plots = [_distribution(one, slo)] if one["histogram"]["counts"] else []
    return [*plots, *_time_line(one, slo)]


def _distribution(one: Mapping[str, Any], slo: list[tuple[str, float]]) -> str:
    edges, counts = one["histogram"]["edges_ms"], one["histogram"]["counts"]
    x = axis([*edges, *(value for _, value in slo)], "latency from the intended send time, ms", logarithmic=True)
    marks = [(f"{q} {number(one['latency_ms'][q], 2)}", one["latency_ms"][q]) for q in ("p50", "p95", "p99")]
    return histogram("Latency of the answers", x, edges, counts, [*marks, *slo])


def _time_line(one: Mapping[str, Any], slo: list[tuple[str, float]]) -> list[str]:
    steps = one["time_line"]
    if len(steps) < 2:
        return []
    x = axis([step["at_s"] for step in steps], "due, s from the start")
    names = (("offered", "grey"), ("in_slo", "green"), ("late", "orange"), ("refused", "blue"), ("lost", "red"))
    rates = [
        Series(name.replace("in_slo", "in SLO"), colour, [(step["at_s"], step[name]) for step in steps])
        for name, colour in names
    ]
    y = axis([step["offered"] for step in steps], "requests/s")
    quantiles = [
        Series(q[:3], colour, [(step["at_s"], step[q]) for step in steps])
        for q, colour in (("p50_ms", "green"), ("p99_ms", "orange"))
    ]
    found = [value for step in steps for value in (step["p50_ms"], step["p99_ms"]) if value]
    plots = [line_chart("What became of the requests", x, y, rates)]
    if found:
        plots.append(line_chart("Latency over the run", x, axis(found, "ms", logarithmic=True), quantiles, slo))
    return plots


def sweep_plots(content: Mapping[str, Any]) -> list[str]:
    """Goodput and latency against offered load."""
    points, slo_ms = content["sweep"], content["capacity"].get("slo_ms")
    offered = [point["offered_per_s"] for point in points]
    x = axis(offered, "offered requests/s")
    goodput = [Series("goodput", "green", [(point["offered_per_s"], point["goodput_per_s"]) for point in points])]
    ideal = Series("offered", "grey", [(one, one) for one in offered], "4 4")
    y = axis(offered, "answers within the SLO/s")
    capacity = [("capacity", content["capacity"]["rate"])]
    plots = [line_chart("Goodput against offered load", x, y, [ideal, *goodput], capacity)]
    latencies = [point["latency_ms"][q] for point in points for q in ("p50", "p99") if point["latency_ms"][q]]
    if latencies:
        lines = [
            Series(q, colour, [(point["offered_per_s"], point["latency_ms"][q]) for point in points])
            for q, colour in (("p50", "green"), ("p99", "orange"))
        ]
        marks = [] if slo_ms is None else [(f"SLO {slo_ms:g} ms", slo_ms)]
        plots.append(line_chart("Latency of the answers", x, axis(latencies, "ms", logarithmic=True), lines, marks))
    return plots
