"""What can be said of a version's readiness from its files alone: checks passed, latency measured, objective kept, alerts there.

No model is loaded here: see checklist.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from optimizer.inspection.alerts import Coverage
from optimizer.stages.take import ORIGINAL
from server.contract.accelerator import Accelerator
from server.contract.device import this_device
from server.contract.durations import format_duration
from server.contract.manifest import ANSWERS, Manifest
from server.contract.profiles import Profiles, in_time_rate
from server.contract.wants import Wants

QUALITY = ("score", ANSWERS, "parity", ORIGINAL)
"""Checks that say how far a version is from its original; one of them is enough."""

INFORMATION = ("padding",)
"""Checks whose failure is a property of the model that the server takes into account."""


class Mark(Enum):
    """How an item came out; only FAILED makes the gate fail."""

    PASSED = "ok"
    WARNING = "warning"
    FAILED = "FAIL"


@dataclass(frozen=True, slots=True)
class Item:
    """One question and its answer, with the figure or the reason, and the remedy where there is something to do."""

    name: str
    mark: Mark
    detail: str

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "mark": self.mark.value}


def check_quality(manifest: Manifest) -> Item:
    """Whether somebody compared it with its original, and all gates passed."""
    failed = [check for check in manifest.checks if not check.passed and check.name not in INFORMATION]
    if failed:
        return Item("quality", Mark.FAILED, f"{failed[0].name} did not pass: {failed[0].detail}")
    found = [check for wanted in QUALITY for check in manifest.checks if check.name == wanted]
    if not found:
        return Item(
            "quality", Mark.FAILED,
            f"none of {', '.join(QUALITY)} is among its checks: nothing says that it answers what its original did; publish it with ferry "
            "optimize, best from a Python file with build(), samples() and score()",
        )  # fmt: skip
    return Item("quality", Mark.PASSED, f"{found[0].name}: {found[0].detail}")


def check_baseline(profiles: Profiles | None, manifest: Manifest) -> Item:
    """Whether its latency was measured, over all that it may be asked."""
    if profiles is None:
        return Item(
            "baseline",
            Mark.FAILED,
            "no profile: its latency was never measured; publish it again on the machine that serves it",
        )
    cells = profiles.profiles[0].cells
    reckoned = sum(cell.samples == 0 for profile in profiles.profiles for cell in profile.cells)
    rows, lengths = max(cell.rows for cell in cells), profiles.profiles[0].measured_lengths
    ragged = manifest.ragged
    if rows < manifest.max_rows or (
        ragged is not None and not (lengths[0] <= ragged.shortest and ragged.longest <= lengths[-1])
    ):
        return Item(
            "baseline", Mark.FAILED,
            f"measured up to {rows} rows and lengths {lengths[0]} to {lengths[-1]} only, more is served; publish it again",
        )  # fmt: skip
    placements = ", ".join(str(profile.placement) for profile in profiles.profiles)
    measured = f"{len(cells)} sizes at placement {placements}"
    if reckoned:
        return Item(
            "baseline", Mark.WARNING, f"{measured}, {reckoned} of them reckoned from others; publish it again for measured ones"
        )
    return Item("baseline", Mark.PASSED, measured)


def check_hardware(profiles: Profiles | None, runtime: str, accelerator: Accelerator | None = None) -> Item:
    """Whether the profile is of this machine, library and card; where not, from which."""
    if profiles is None:
        return Item("hardware", Mark.WARNING, "no profile that could be of another machine")
    difference = profiles.device.difference(this_device(runtime, accelerator))
    device = profiles.device
    if difference is None:
        return Item(
            "hardware", Mark.PASSED, f"measured on this machine: {device.processor}, {device.cores} cores, {device.runtime}"
        )
    return Item(
        "hardware", Mark.WARNING,
        f"measured on {device.processor}, {device.cores} cores, {device.runtime}: {difference}; a server on this machine measures "
        "again while it serves",
    )  # fmt: skip


def check_objective(wants: Wants | None, profiles: Profiles | None, manifest: Manifest) -> Item:
    """Whether there is an SLO, which one row of the greatest length keeps although a batch runs already."""
    if wants is None:
        return Item("SLO", Mark.FAILED, 'no model.toml beside the version; write one with a line like: slo = "50ms"')
    slo = format_duration(wants.slo_s)
    if profiles is None:
        return Item("SLO", Mark.FAILED, f"{slo}, but without a profile nobody knows whether it can be kept")
    length = manifest.ragged.longest if manifest.ragged else 0
    profile = profiles.choose(wants, manifest.max_rows, profiles.device.cores).profile
    p99_s, rate = profile.predict_p99(1, length), in_time_rate(profile, wants.slo_s, manifest.max_rows, length)
    at = f" of length {length}" if length else ""
    said = f"{slo}; one row{at} takes {format_duration(p99_s)} (p99)"
    if rate > 0:
        return Item("SLO", Mark.PASSED, f"{said}; up to {rate:,.0f} rows/s within it")
    why = "more than that" if p99_s > wants.slo_s else "with a batch running before it, more than that"
    return Item("SLO", Mark.FAILED, f"{said}, {why}; raise the SLO, shorten the inputs, or make the model smaller")


def judge_alerts(found: Coverage, deploy: Path) -> Item:
    """Whether somebody is told when the model is late, refuses or fails."""
    if found.n_rules == 0:
        return Item("alerts", Mark.WARNING, f"not found: no alert rules below {deploy}; nobody is told when it misses its SLO")
    if found.missing:
        return Item(
            "alerts",
            Mark.FAILED,
            f"of {found.n_rules} alert rules below {deploy}, none is about its {', '.join(found.missing)}",
        )
    if found.unread:
        return Item(
            "alerts",
            Mark.FAILED,
            f"{found.unread} is in no rule_files of a Prometheus configuration below {deploy}: add it there",
        )
    return Item("alerts", Mark.PASSED, f"{found.n_rules} alert rules, for {', '.join(found.covered)}")
