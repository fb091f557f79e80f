"""The script that takes outputs and notes on shapes out of a file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from loadtests.optimizers.tool import SCRIPTS

onnx = pytest.importorskip("onnx")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPTS / "onnx_graph.py"), *arguments], capture_output=True, text=True, check=False
    )


def write(file: Path) -> None:
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    y, z, x = (helper.make_tensor_value_info(name, kind, ["batch", 2]) for name in "yzx")
    nodes = [helper.make_node("Neg", ["x"], ["y"]), helper.make_node("Neg", ["y"], ["z"])]
    graph = helper.make_graph(nodes, "g", [x], [y, z], value_info=[helper.make_tensor_value_info("y", kind, ["batch", 2])])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), file)


def test_outputs_that_nobody_asked_for_and_notes_are_gone(tmp_path: Path) -> None:
    write(tmp_path / "in.onnx")
    assert run(str(tmp_path / "in.onnx"), str(tmp_path / "out.onnx"), "--outputs", "z").returncode == 0
    graph = onnx.load(tmp_path / "out.onnx").graph
    assert ([one.name for one in graph.output], len(graph.value_info)) == (["z"], 0)
    assert run(str(tmp_path / "in.onnx"), str(tmp_path / "out.onnx")).returncode == 0
    assert len(onnx.load(tmp_path / "out.onnx").graph.output) == 2


def test_an_output_that_is_not_there_is_told(tmp_path: Path) -> None:
    write(tmp_path / "in.onnx")
    done = run(str(tmp_path / "in.onnx"), str(tmp_path / "out.onnx"), "--outputs", "w")
    assert done.returncode == 1
    assert "has the outputs ['y', 'z'], not ['w']" in done.stderr
