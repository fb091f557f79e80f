"""What the files of a version say of its readiness."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from optimizer.inspection.alerts import Coverage
from optimizer.inspection.readiness import (
    Mark,
    check_baseline,
    check_hardware,
    check_objective,
    check_quality,
    judge_alerts,
)
from server.contract.device import Device, this_device
from server.contract.manifest import Check, FileEntry, Manifest, Ragged
from server.contract.profile import Cell, Placement, Profile
from server.contract.profiles import Profiles
from server.contract.tensors import DataType, TensorSpec
from server.contract.wants import Wants

MANIFEST = Manifest(
    "tiny", "onnxruntime", (FileEntry("model.onnx", "a" * 64, 5),), (TensorSpec("x", DataType.FP32, ("batch", "length")),),
    (TensorSpec("y", DataType.FP32, ("batch", 4)),), Ragged("length", 2, 8, {}, mixes=True), 4, (Check("rows", True, "fine"),), None,
)  # fmt: skip


def profiles(
    device: Device | None = None, samples: int = 5, longest: int = 8, most: int = 4, seconds: float = 0.01
) -> Profiles:
    cells = tuple(
        Cell(rows, length, seconds, seconds, 2 * seconds, samples, 0) for length in (2, longest) for rows in (1, most)
    )
    return Profiles((Profile(device or Device("cpu", 1, "none 1"), Placement(1, 1), cells),))


def with_checks(*checks: Check) -> Manifest:
    return replace(MANIFEST, checks=checks)


def test_quality_needs_a_comparison_with_the_original() -> None:
    item = check_quality(MANIFEST)
    assert item.mark is Mark.FAILED
    assert "none of score, answers, parity, original" in item.detail
    found = check_quality(with_checks(Check("parity", True, "worst 1e-6"), Check("score", True, "0.99")))
    assert (found.mark, found.detail) == (Mark.PASSED, "score: 0.99")
    assert check_quality(with_checks(Check("answers", True, "mean cosine 0.9999"))).mark is Mark.PASSED, (
        "as the ladder writes it"
    )
    own = check_quality(with_checks(Check("original", True, "some.onnx as it was given, unchanged")))
    assert (own.mark, own.detail) == (Mark.PASSED, "original: some.onnx as it was given, unchanged")


def test_a_failed_check_fails_but_for_padding_which_is_a_property() -> None:
    score = Check("score", True, "0.99")
    assert check_quality(with_checks(score, Check("padding", False, "changes answers"))).mark is Mark.PASSED
    failed = check_quality(with_checks(score, Check("vocabulary", False, "wrong")))
    assert (failed.mark, failed.detail) == (Mark.FAILED, "vocabulary did not pass: wrong")


def test_the_baseline_covers_all_that_is_served() -> None:
    assert check_baseline(profiles(), MANIFEST).mark is Mark.PASSED
    assert check_baseline(None, MANIFEST).mark is Mark.FAILED
    assert "measured up to 2 rows" in check_baseline(profiles(most=2), MANIFEST).detail
    assert "lengths 2 to 4" in check_baseline(profiles(longest=4), MANIFEST).detail
    reckoned = check_baseline(profiles(samples=0), MANIFEST)
    assert (reckoned.mark, "4 of them reckoned" in reckoned.detail) == (Mark.WARNING, True)


def test_another_machine_is_named() -> None:
    here = check_hardware(profiles(this_device("none 1")), "none 1")
    assert here.mark is Mark.PASSED
    there = check_hardware(profiles(Device("Other CPU", 7, "none 1")), "none 1")
    assert there.mark is Mark.WARNING
    assert there.detail.startswith("measured on Other CPU, 7 cores, none 1: processor is ")
    assert check_hardware(None, "none 1").mark is Mark.WARNING


@pytest.mark.parametrize(
    ("slo_s", "mark", "wanted"),
    [
        (0.1, Mark.PASSED, "100ms; one row of length 8 takes 20ms (p99); up to "),
        (0.03, Mark.FAILED, "with a batch running before it, more than that; raise the SLO"),
        (0.01, Mark.FAILED, "takes 20ms (p99), more than that; raise the SLO"),
    ],
)
def test_the_objective_needs_room_for_a_running_batch(slo_s: float, mark: Mark, wanted: str) -> None:
    item = check_objective(Wants(slo_s), profiles(), MANIFEST)
    assert item.mark is mark
    assert wanted in item.detail


def test_an_objective_must_be_there_and_be_known_to_hold() -> None:
    assert "write one with a line like" in check_objective(None, profiles(), MANIFEST).detail
    assert check_objective(Wants(1.0), None, MANIFEST).mark is Mark.FAILED


@pytest.mark.parametrize(
    ("found", "mark", "wanted"),
    [
        (Coverage(0), Mark.WARNING, "not found: no alert rules below deploy"),
        (Coverage(2, ("refusals",), ("failures",)), Mark.FAILED, "none is about its failures"),
        (Coverage(2, ("refusals",), (), "ferry.yml"), Mark.FAILED, "ferry.yml is in no rule_files"),
        (Coverage(3, ("refusals", "failures")), Mark.PASSED, "3 alert rules, for refusals, failures"),
    ],
)
def test_alerts(found: Coverage, mark: Mark, wanted: str) -> None:
    item = judge_alerts(found, Path("deploy"))
    assert item.mark is mark
    assert wanted in item.detail
