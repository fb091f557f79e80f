"""The command: from a count, from a version, from one like it."""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optimizer.inspection.estimate_verb import EstimateVerb
from tests.models import onnx_bytes, publish_model
from tests.optimizer.inspection.changed import Change, change, copy_of


def run(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    EstimateVerb().configure(parser)
    return EstimateVerb().run(parser.parse_args([str(argument) for argument in arguments]))


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """dense/1, of 64 x 64 weights."""
    from onnx import helper

    repository = tmp_path_factory.mktemp("dense")
    weight = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    model = onnx_bytes(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], [("x", "FP32", ["batch", 64])], [("y", "FP32", ["batch", 64])], {"w": weight}
    )  # fmt: skip
    publish_model(repository, "dense", model, max_rows=2)
    return repository


def figures(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    assert run(*arguments, "--json") == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_from_a_count(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--parameters", "22.7M", "--bits", 8, "--positions", 32, "--cores", 2) == 0
    out = capsys.readouterr().out
    assert "parameters  22,700,000 → 22,700,000" in out
    assert "size        22.70 MB (0.25x)" in out
    assert "1.7 to 2.8 times as fast" in out
    assert "assumed: 2 operations for each parameter at 32 position(s)" in out


def test_from_a_version(dense: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = figures(capsys, "dense", "--repository", dense)
    assert found["before"]["n_parameters"] == 4096
    assert found["assumptions"] == []
    assert found["size_bytes"] == (dense / "dense" / "1" / "model.onnx").stat().st_size
    assert found["latency_s"]["low"] == found["latency_s"]["high"] > 0
    smaller = figures(capsys, "dense/1", "--repository", dense, "--bits", 8, "--student", 1024)
    assert smaller["size_bytes"] == 1024


def test_from_one_like_it(dense: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = figures(capsys, "--parameters", 8192, "--like", "dense", "--repository", dense)
    own = figures(capsys, "dense", "--repository", dense)
    assert found["latency_s"]["low"] == pytest.approx(own["latency_s"]["low"] * 2**0.7)


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ((), "of which model"),
        (("dense", "--parameters", "5"), "has its own parameters"),
        (("dense", "--cores", "2"), "for models that were not measured"),
        (("nosuch",), "neither a model of"),
        (("--parameters", "5", "--unstructured"), "say how many with --sparsity"),
        (("--parameters", "5", "--rank", "0.9"), "saves nothing"),
    ],
)
def test_what_cannot_be_estimated_is_status_2(
    dense: Path, arguments: tuple[str, ...], wanted: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments, "--repository", dense) == 2
    assert wanted in capsys.readouterr().err


def test_a_model_without_weights_is_named(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("masked", "--repository", made) == 2
    assert "has no weights to change" in capsys.readouterr().err


def of_another_kind(data: dict[str, Any]) -> None:
    data["backend"] = "other"


def without_model(data: dict[str, Any]) -> None:
    """Only the file that says where it comes from is left."""
    data["files"] = [{"path": "lineage.jsonl", "sha256": hashlib.sha256(b"").hexdigest(), "bytes": 0}]


@pytest.mark.parametrize(
    ("how", "wanted"),
    [(of_another_kind, "is served by other, of whose speed nothing is known"), (without_model, "has no .onnx file")],
)
def test_a_version_of_another_kind_is_named(
    dense: Path, tmp_path: Path, how: Change, wanted: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copy_of(dense, "dense", tmp_path) / "dense" / "1"
    (folder / "lineage.jsonl").write_bytes(b"")
    change(folder, "manifest.json", how)
    assert run("dense", "--repository", tmp_path) == 2
    assert wanted in capsys.readouterr().err


def test_a_version_that_was_never_measured_is_named(dense: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copy_of(dense, "dense", tmp_path) / "dense" / "1" / "profile.json").unlink()
    assert run("dense", "--repository", tmp_path) == 2
    assert "has no profile; give --parameters" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "x", "0", "0.5", "1e99", "nan"])
def test_counts_are_checked(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("--parameters", text)
    assert "is not a number of 1 or more" in capsys.readouterr().err
