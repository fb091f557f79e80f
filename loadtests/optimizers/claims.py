"""What is claimed of `ferry optimize` beside another tool: its rate within the objective is no lower, at quality that passes. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loadtests.verdicts import Side, Verdict

ALIKE = 0.97
"""Within 3 % ferry's own ladder takes two versions for alike, and the simpler one."""

FERRY = "ferry optimize"


def claims(models: Mapping[str, Any], tools: Mapping[str, str]) -> list[Verdict]:
    """For each model that ferry's quality passes, and for each tool (name → label) beside the fastest of its versions whose quality does;
    none beside a tool that has no such version."""
    found = []
    for model, told in models.items():
        ours = told["versions"][FERRY]
        found.append(
            Verdict(f"{model}: what fails of ferry's quality", float(len(ours["quality"]["failings"])), Side.AT_MOST, 0.0)
        )
        for tool, label in tools.items():
            best = best_of(told["versions"], tool)
            if best is not None:
                rate = told["versions"][best]["rate"]
                ratio = ours["rate"] / rate if rate and ours["rate"] is not None else None
                found.append(
                    Verdict(f"{model}: rate within the objective / {label}'s best ({best})", ratio, Side.AT_LEAST, ALIKE)
                )
    return found


def best_of(versions: Mapping[str, Any], tool: str) -> str | None:
    """The fastest of a tool's versions whose quality passes; one whose rate nobody searched for is slower than all others."""
    good = [key for key, one in versions.items() if one["tool"] == tool and not one["quality"]["failings"]]
    return max(good, key=lambda key: float(versions[key]["rate"] or 0.0), default=None)
