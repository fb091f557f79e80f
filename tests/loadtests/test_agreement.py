"""Predictions beside measurements, as a table and a plot."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from loadtests.agreement import Compared, Figure, agreement_plot, agreement_table
from loadtests.compare_simulation import CASES, _pace, _parse, _record

GOOD = Figure("p50", 0.3, "ms", 10.0, 11.0, 11.0, 0.15)
BAD = Figure("capacity", None, "/s", 120.0, 100.0, None, 0.10)


def test_a_prediction_agrees_within_its_bounds() -> None:
    assert GOOD.agrees
    assert not BAD.agrees
    assert BAD.ratio == pytest.approx(1.2)
    assert not Figure("p99", 0.3, "ms", 1.0, 0.0, None, 0.15).agrees


def test_the_table_has_a_verdict_per_line() -> None:
    lines = agreement_table([Compared("m", 0.1, 100.0, [GOOD, BAD])]).splitlines()
    assert "m p50 at 0.3x" in lines[2]
    assert " within 15%" in lines[2]
    assert lines[2].endswith("1.00")
    assert "NOT within 10%" in lines[3]


def test_the_plot_is_an_svg_with_a_dot_per_figure() -> None:
    drawn = ET.fromstring(agreement_plot([Compared("a<b", 0.1, 100.0, [GOOD, BAD])]))
    dots = [one.get("class") for one in drawn.iter("{http://www.w3.org/2000/svg}circle")]
    assert dots == ["paced", "agrees", "differs"]


def test_the_pace_is_of_batches_of_the_same_size() -> None:
    before, after = {1: (10, 50.0)}, {1: (20, 110.0), 2: (5, 40.0), 8: (1, 99.0)}
    assert _pace(before, after, {1: 5.0, 2: 8.0}) == pytest.approx((60 + 40) / (50 + 40)), "8 rows were not predicted"


def test_both_worlds_get_the_same_requests(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("traces")
    ragged = next(case for case in CASES if case.lengths)
    lines = _record(ragged, folder, 50.0, 2.0, 1).read_text().splitlines()
    assert len(lines) == 100
    assert all(int(line.split()[1]) >= 3 for line in lines)
    assert all(len(line.split()) == 1 for line in _record(CASES[0], folder, 50.0, 2.0, 1).read_text().splitlines())


def test_all_models_are_compared_unless_some_are_named() -> None:
    assert _parse([]).models == ["paced", "minilm", "resnet18"]
    assert _parse(["--models", "paced"]).models == ["paced"]
