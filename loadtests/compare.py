"""Two results side by side, with what differs in how they were made: figures of different machines are not compared."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from loadtests.errors import BadInput
from loadtests.report import number, table

_IGNORED = ("seed", "url", "pid")
_FIGURES = (
    "goodput_per_s", "in_slo_share", "latency_ms.p50", "latency_ms.p95", "latency_ms.p99", "latency_with_misses_ms.p99",
    "counts.late", "counts.timed_out", "counts.never_sent",
)  # fmt: skip
_SERVER = ("cpu_us_per_reply", "cpu_cores", "rss_after")


def compare(first: Path, second: Path) -> str:
    """A table of A, B and B / A, and a line for everything in flags and machine that differs. Raises BadInput."""
    a, b = _read(first), _read(second)
    left, right = _figures(a), _figures(b)
    shared = [name for name in left if name in right]
    if not shared:
        raise BadInput(f"{first} ({a.get('kind')}) and {second} ({b.get('kind')}) have no figure in common")
    lines = [[name, _cell(left[name]), _cell(right[name]), _ratio(left[name], right[name])] for name in shared]
    notes = [f"! A: {one}" for one in a["notices"]] + [f"! B: {one}" for one in b["notices"]]
    return "\n".join([table(("", "A", "B", "B / A"), lines), *notes, *_differences(a, b)])


def _read(file: Path) -> dict[str, Any]:
    try:
        found = orjson.loads(file.read_bytes())
        if {"kind", "configuration", "environment", "notices"} <= set(found):
            return dict(found)
    except (OSError, ValueError, TypeError) as error:
        raise BadInput(f"cannot read the result {file}: {error}") from error
    raise BadInput(f"{file} is no result of `ferry loadtest --out`")


def _figures(content: Mapping[str, Any]) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    if (capacity := content.get("capacity")) is not None:
        found["capacity /s"] = capacity["rate"]
    for name, one in content.get("traffic", {}).items():
        found |= {f"{name} {path}": _at(one, path) for path in _FIGURES}
        found |= {f"{name} {what}": sum(one["counts"][what].values()) for what in ("refused", "failed")}
    for point in content.get("sweep", []):
        found[f"goodput/s at {point['factor']:g}x"] = point["goodput_per_s"]
        found[f"p99 ms at {point['factor']:g}x"] = point["latency_ms"]["p99"]
    if (closed := content.get("closed")) is not None:
        found |= {"closed loop answers/s": closed["per_s"]} | {
            f"closed loop {q} ms": ms for q, ms in closed["latency_ms"].items()
        }
    if (server := content.get("server")) is not None:
        found |= {f"server {name}": server[name] for name in _SERVER if name in server}
    return found


def _at(values: Any, path: str) -> float | None:
    for name in path.split("."):
        values = values[name]
    return None if values is None else float(values)


def _cell(value: float | None) -> str:
    return number(value, 0 if value is None or abs(value) >= 1000 or value == int(value) else 3)


def _ratio(a: float | None, b: float | None) -> str:
    return number(b / a, 3) if a and b is not None else "-"


def _differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    lines = []
    for what in ("configuration", "environment"):
        for name in sorted({*a[what], *b[what]} - set(_IGNORED)):
            left, right = a[what].get(name), b[what].get(name)
            if left != right:
                lines.append(f"differs: {name}: {left} | {right}")
    return lines
