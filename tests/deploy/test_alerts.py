"""The alert rules speak of metrics that the server has, and `ferry gate` finds what it looks for in them."""

from __future__ import annotations

import re
from pathlib import Path

from optimizer.inspection.alerts import TROUBLES, look_for_alerts
from server.core.types import ModelKey
from server.runtime.clock import monotonic_clock
from server.telemetry.metrics import Metrics

FOLDER = Path(__file__).parents[2] / "deploy" / "prometheus"


def exported() -> set[str]:
    metrics = Metrics(monotonic_clock)
    metrics.open(ModelKey("any", 1))
    families = list(metrics.registry.collect())
    samples = {sample.name for family in families for sample in family.samples}
    counters = {f"{family.name}_total" for family in families if family.type == "counter"}
    return samples | counters | {family.name for family in families}


def test_every_metric_in_a_rule_is_one_that_the_server_has() -> None:
    conditions = re.findall(r"expr:((?:.|\n)*?)for:", (FOLDER / "alerts.yml").read_text())
    named = {name for condition in conditions for name in re.findall(r"\bferry_[a-z_0-9]+", condition)}
    assert len(named) >= 4
    assert named <= exported()


def test_the_gate_is_content_with_them() -> None:
    found = look_for_alerts(FOLDER, "any")
    assert (set(found.covered), found.missing, found.unread) == (set(TROUBLES), (), None)
