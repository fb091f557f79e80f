"""What is found among alert rules, in the forms that people write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from optimizer.inspection.alerts import look_for_alerts

CONFIG = "rule_files:\n  - /etc/prometheus/rules/*.yml\n"
RULES = """
groups:
  - name: ferry
    rules:
      - alert: Late
        expr: rate(ferry_late_total[5m]) > 0.01
      - alert: Refused
        expr: |
          sum by (model) (rate(ferry_refused_total[5m]))
            > 1
        for: 5m
      - alert: Failed
        expr: 'rate(ferry_failed_total{model="digits"}[5m]) > 0'
"""


def folder(tmp_path: Path, rules: str, config: str = CONFIG) -> Path:
    (tmp_path / "prometheus").mkdir()
    (tmp_path / "prometheus" / "prometheus.yml").write_text(config)
    (tmp_path / "prometheus" / "ferry.yml").write_text(rules)
    return tmp_path


def test_all_troubles_are_covered(tmp_path: Path) -> None:
    found = look_for_alerts(folder(tmp_path, RULES), "digits")
    assert (found.n_rules, found.missing, found.unread) == (3, (), None)
    assert found.covered == ("late answers", "refusals", "failures")


def test_a_selector_may_leave_a_model_out(tmp_path: Path) -> None:
    assert look_for_alerts(folder(tmp_path, RULES), "minilm").missing == ("failures",)


@pytest.mark.parametrize(
    ("selector", "is_covered"),
    [
        ('model=~"digits|minilm"', True), ('model=~"dig.*"', True), ('model=~"other"', False), ('model!="digits"', False),
        ('model!~"other"', True), ("model='digits'", True), ('model=~"("', False),
    ],
)  # fmt: skip
def test_selectors(tmp_path: Path, selector: str, is_covered: bool) -> None:
    rules = RULES.replace('model="digits"', selector)
    assert ("failures" in look_for_alerts(folder(tmp_path, rules), "digits").covered) is is_covered


def test_a_metric_of_a_longer_name_is_another_one(tmp_path: Path) -> None:
    found = look_for_alerts(folder(tmp_path, RULES.replace("ferry_late_total", "ferry_lateness_total")), "digits")
    assert found.missing == ("late answers",)


def test_rules_must_be_read_by_a_configuration(tmp_path: Path) -> None:
    assert look_for_alerts(folder(tmp_path, RULES, "global: {}\n"), "digits").unread == "ferry.yml"


@pytest.mark.parametrize("config", ['rule_files: ["ferry.yml"]\n', "rule_files:\n- ferry.yml\nscrape_configs: []\n"])
def test_both_forms_of_a_list(tmp_path: Path, config: str) -> None:
    assert look_for_alerts(folder(tmp_path, RULES, config), "digits").unread is None


def test_an_operator_reads_its_own_objects(tmp_path: Path) -> None:
    rules = "kind: PrometheusRule\nspec:\n" + RULES
    assert look_for_alerts(folder(tmp_path, rules, "global: {}\n"), "digits").unread is None


def test_no_folder_and_no_rules(tmp_path: Path) -> None:
    assert look_for_alerts(tmp_path / "nosuch", "digits").n_rules == 0
    assert look_for_alerts(folder(tmp_path, "groups: []\n"), "digits").n_rules == 0
