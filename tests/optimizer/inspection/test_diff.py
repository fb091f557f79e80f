"""Parts of a comparison, each with one thing changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from optimizer.inspection.diff import Part, Side, Standing, compare_versions, same
from server.contract.device import Device
from server.contract.layout import VersionFiles
from server.contract.manifest import Check, FileEntry, Manifest, Ragged
from server.contract.profile import Cell, Placement, Profile
from server.contract.profiles import Profiles
from server.contract.tensors import DataType, TensorSpec
from server.contract.wants import Wants

HERE = Device("cpu", 2, "onnxruntime 1")
MANIFEST = Manifest(
    "tiny", "onnxruntime", (FileEntry("model.onnx", "a" * 64, 40_000_000), FileEntry("lineage.jsonl", "b" * 64, 7)),
    (TensorSpec("ids", DataType.INT64, ("batch", "length")),), (TensorSpec("y", DataType.FP32, ("batch", 4)),),
    Ragged("length", 2, 8, {"ids": 0}, mixes=True), 4, (Check("parity", True, "worst 1e-6"),), None,
)  # fmt: skip
LINE = {
    "stage": "export", "key": "k1", "config": {"opset": 20}, "inputs": {"source": "s1"}, "tools": {"onnx": "1.23"}, "seconds": 1.5,
    "output": "o1",
}  # fmt: skip


def profiles(times_faster: float = 1.0, device: Device = HERE) -> Profiles:
    """One row of length 2 takes 10 ms, of length 8 20 ms; a batch of 4 twice that."""
    cells = []
    for length, seconds in ((2, 0.01), (8, 0.02)):
        for rows in (1, 4):
            time = seconds * (1 if rows == 1 else 2) / times_faster
            cells.append(Cell(rows, length, time, time, time, 5, 0))
    return Profiles((Profile(device, Placement(1, 2), tuple(cells)),))


def side(**changes: Any) -> Side:
    manifest = changes.pop("manifest", MANIFEST)
    files = VersionFiles(Path("tiny/1"), 1, manifest, changes.pop("profiles", profiles()))
    usual: dict[str, Any] = {"wants": Wants(0.1), "operators": Counter({"MatMul": 3}), "lineage": [LINE], **changes}
    return Side("tiny/1", files, **usual)


def parts(**changes: Any) -> dict[str, Part]:
    return {part.name: part for part in compare_versions(side(), side(**changes))}


def lines(name: str, **changes: Any) -> tuple[str, ...]:
    """Of the one part that differs."""
    found = parts(**changes)
    assert [part.name for part in found.values() if part.standing is Standing.DIFFERS] == [name]
    assert not same(list(found.values()))
    return found[name].lines


def test_a_version_is_the_same_as_itself() -> None:
    found = parts()
    assert same(list(found.values()))
    assert {part.standing for name, part in found.items() if name != "profile"} == {Standing.SAME}
    assert found["profile"].standing is Standing.MEASURED


def test_files_are_compared_by_digest_and_told_by_size() -> None:
    smaller = replace(MANIFEST, files=(FileEntry("model.onnx", "c" * 64, 10_000_000), FileEntry("tokenizer.json", "d" * 64, 5)))
    assert lines("files", manifest=smaller) == ("model.onnx: 40.00 MB → 10.00 MB (0.25x)", "tokenizer.json: only in the second")


def test_the_lineage_file_and_measurements_make_no_difference() -> None:
    again = replace(MANIFEST, files=(MANIFEST.files[0], FileEntry("lineage.jsonl", "e" * 64, 9)))
    found = parts(manifest=again, profiles=profiles(3.0), lineage=[{**LINE, "seconds": 9.0, "output": "o2", "key": "k2"}])
    assert same(list(found.values()))


def test_operators_are_counted_the_largest_change_first() -> None:
    assert lines("operators", operators=Counter({"MatMul": 1, "MatMulInteger": 5})) == (
        "3 → 6 in all", "MatMulInteger: 0 → 5", "MatMul: 3 → 1",
    )  # fmt: skip
    assert parts(operators=None)["operators"].standing is Standing.UNKNOWN


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"max_rows": 8}, "largest batch: 4 → 8"),
        ({"outputs": (TensorSpec("y", DataType.FP16, ("batch", 4)),)}, "output y: FP32 [batch, 4] → FP16 [batch, 4]"),
        ({"ragged": Ragged("length", 2, 8, {"ids": 0}, mixes=False)}, "lengths share a batch: yes → no"),
        ({"ragged": Ragged("length", 2, 9, {"ids": 0}, mixes=True)}, "lengths: 2 to 8 → 2 to 9"),
    ],
)
def test_tensors(changes: Mapping[str, Any], wanted: str) -> None:
    assert lines("tensors", manifest=replace(MANIFEST, **changes)) == (wanted,)


def test_checks_differ_by_name_and_verdict_not_by_figure() -> None:
    found = parts(manifest=replace(MANIFEST, checks=(Check("parity", True, "worst 2e-6"),)))
    assert found["checks"].standing is Standing.SAME
    failed = replace(MANIFEST, checks=(Check("parity", False, "differs"), Check("score", True, "0.99")))
    assert lines("checks", manifest=failed) == (
        "parity: passed (worst 1e-6) → failed (differs)",
        "score: only in the second: 0.99",
    )


def test_backend_and_fallback() -> None:
    other = replace(MANIFEST, backend="openvino-bf16", fallback="onnxruntime")
    assert lines("backend", manifest=other) == ("backend: onnxruntime → openvino-bf16", "fallback: none → onnxruntime")


def test_the_objective() -> None:
    assert lines("SLO", wants=Wants(0.05, threads=1)) == ("SLO: 100ms → 50ms", "threads: none → 1")
    assert parts(wants=None)["SLO"].standing is Standing.UNKNOWN


@pytest.mark.parametrize(
    ("lineage", "wanted"),
    [
        ([{**LINE, "config": {"opset": 21}}], "export: config: opset: 20 → 21"),
        ([{**LINE, "tools": {"onnx": "1.24"}}], "export: tools: onnx: 1.23 → 1.24"),
        ([{**LINE, "inputs": {"source": "s2"}}], "export: other inputs"),
        ([], "export: only in the first"),
    ],
)
def test_lineage(lineage: list[dict[str, Any]], wanted: str) -> None:
    assert lines("lineage", lineage=lineage) == (wanted,)


def test_profiles_are_told_as_ratios() -> None:
    found = parts(profiles=profiles(2.0))["profile"]
    rows = {row["length"]: row for row in found.data["lengths"]}
    assert rows[2]["p50_s"] == [0.01, 0.005]
    assert (rows[2]["p50_ratio"], rows[8]["p99_ratio"]) == (0.5, 0.5)
    assert rows[8]["rate_ratio"] > 2, "half the time leaves more than twice the rate within the same SLO"
    assert found.lines[0] == "placement: 1x2 → 1x2"
    assert found.lines[1].startswith("length 2: one row p50 10ms → 5ms (0.50x), p99 10ms → 5ms (0.50x); ")
    assert "rows/s within 100ms" in found.lines[1]


def test_without_an_objective_there_is_no_rate() -> None:
    one, other = side(wants=None), side(wants=None, profiles=profiles(2.0))
    found = next(part for part in compare_versions(one, other) if part.name == "profile")
    assert found.lines[1] == "length 2: one row p50 10ms → 5ms (0.50x), p99 10ms → 5ms (0.50x)"


def test_profiles_of_different_machines_have_no_ratio() -> None:
    found = parts(profiles=profiles(device=Device("other", 2, "onnxruntime 1")))["profile"]
    assert found.standing is Standing.UNKNOWN
    assert "different machines" in found.lines[0]
    assert parts(profiles=None)["profile"].standing is Standing.UNKNOWN
    runtime = parts(profiles=profiles(device=Device("cpu", 2, "onnxruntime 1, openvino provider 1")))["profile"]
    assert runtime.lines[0] == "runtime: onnxruntime 1 → onnxruntime 1, openvino provider 1"
