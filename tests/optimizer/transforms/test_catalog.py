"""What holds for every transform, and when the catalog says that one makes no sense."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from optimizer.env import tool_versions
from optimizer.errors import OptimizeError, StageFailed
from optimizer.transforms.catalog import TRANSFORMS, Entry, find_transform
from optimizer.transforms.facts import GraphFacts
from tests.optimizer.transforms.graphs import Net, signature

EVERY = pytest.mark.parametrize("entry", TRANSFORMS.values(), ids=TRANSFORMS)
MODEST = {"low-rank": {"energy": 0.5, "min_cosine": 0.0}}
BIG = 1 << 24
ENCODER = GraphFacts({"MatMul": 8}, BIG, 4 * BIG, 2 * BIG, 0, 2 * BIG, True, True, ("FLOAT", "INT64"))
CNN = GraphFacts({"Conv": 8, "Gemm": 1}, BIG, 4 * BIG, BIG, 3 * BIG, 0, False, False, ("FLOAT",))


def test_the_names_are_these() -> None:
    assert list(TRANSFORMS) == [
        "fuse", "fp16", "int8-dynamic", "int8-static", "weights-int8", "weights-int4", "prune", "low-rank",
    ]  # fmt: skip
    with pytest.raises(OptimizeError, match="there is no transform 'int8'; there are fuse, fp16, "):
        find_transform("int8")
    assert find_transform("fuse").name == "fuse"


@EVERY
def test_the_same_arguments_give_the_same_bytes_and_the_source_stays(entry: Entry, encoder: Net, tmp_path: Path) -> None:
    source = tmp_path / "source" / "model.onnx"
    source.parent.mkdir()
    shutil.copyfile(encoder.path, source)
    options = MODEST.get(entry.name, {})
    first = entry.run(source, tmp_path / "first.onnx", encoder.material, options)
    second = entry.run(source, tmp_path / "second.onnx", encoder.material, options)
    assert (tmp_path / "first.onnx").read_bytes() == (tmp_path / "second.onnx").read_bytes()
    assert first == second
    assert source.read_bytes() == encoder.path.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first.onnx", "second.onnx", "source"]
    assert [path.name for path in source.parent.iterdir()] == ["model.onnx"]
    assert signature(tmp_path / "first.onnx") == signature(encoder.path)


@EVERY
def test_an_unknown_option_is_named_with_the_known_ones(entry: Entry, encoder: Net, tmp_path: Path) -> None:
    known = ", ".join(entry.defaults) or "none"
    with pytest.raises(OptimizeError, match=f"{entry.name}: unknown option 'speed'; its options are: {known}"):
        entry.run(encoder.path, tmp_path / "made.onnx", encoder.material, {"speed": 1})


@EVERY
def test_a_file_that_is_no_model_is_a_failed_stage(entry: Entry, encoder: Net, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"\x00nothing")
    with pytest.raises(StageFailed, match=r"model\.onnx cannot be read"):
        entry.run(tmp_path / "model.onnx", tmp_path / "made.onnx", encoder.material, {})
    assert not (tmp_path / "made.onnx").exists()


@EVERY
def test_defaults_are_allowed_and_explained(entry: Entry) -> None:
    assert all(option.allows(option.default) and option.means for option in entry.options)
    assert entry.promises
    assert entry.missing() is None
    assert set(tool_versions(entry.distributions())) > {"numpy", "onnx"}


def test_a_missing_module_is_named() -> None:
    entry = replace(TRANSFORMS["fuse"], modules=("numpy", "no_such_module"))
    assert entry.missing() == "no_such_module is not installed: pip install 'ferry-serving[optimizer]'"


@pytest.mark.parametrize("name", ["fuse", "fp16", "int8-dynamic", "int8-static", "weights-int8", "weights-int4", "low-rank"])
def test_on_an_encoder_nearly_all_make_sense(name: str) -> None:
    assert TRANSFORMS[name].why_not(ENCODER) is None


@pytest.mark.parametrize(
    ("name", "facts", "reason"),
    [
        ("fuse", CNN, "neither attention nor layer normalization"),
        ("fuse", replace(ENCODER, operators={"MatMulInteger": 3}), "quantized already, .*; fuse first"),
        ("int8-dynamic", CNN, "in convolutions"),
        ("weights-int8", CNN, "in convolutions"),
        ("prune", CNN, "neither time nor size"),
        ("fp16", replace(CNN, dtypes=("FLOAT16",)), r"no float32 constants \(FLOAT16\)"),
        ("int8-static", replace(CNN, conv_bytes=1000, matmul_bytes=1000), "have 2 KiB of weights"),
        ("int8-static", replace(CNN, operators={"QLinearConv": 3}), "quantized already"),
    ],
)
def test_why_not(name: str, facts: GraphFacts, reason: str) -> None:
    found = TRANSFORMS[name].why_not(facts)
    assert found is not None
    assert re.search(reason, found)


def test_the_catalog_needs_no_optional_library() -> None:
    code = "import sys, optimizer.transforms.catalog; print(sorted({'onnx', 'torch', 'onnxscript'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_only_dynamic_ranges_mix_rows() -> None:
    assert [entry.name for entry in TRANSFORMS.values() if entry.mixes_rows] == ["int8-dynamic"]
