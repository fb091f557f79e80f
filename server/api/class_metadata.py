"""How configuration tells of a model's classes: in Triton's words where it has some, else among the parameters."""

from __future__ import annotations

from server.contract.classes import Classes
from server.contract.durations import format_duration


def priority_levels(classes: Classes) -> dict[str, int]:
    """A configuration's `dynamic_batching`."""
    return {"priority_levels": len(classes.all), "default_priority_level": classes.default}


def class_parameters(classes: Classes) -> dict[str, str]:
    """Names and values as a configuration's `parameters` have them; the classes with their SLOs, the most urgent first."""
    return {
        "slo_ms": f"{classes.of(0).slo_s * 1e3:g}",
        "classes": ", ".join(f"{one.name} {format_duration(one.slo_s)}" for one in classes.all),
    }
