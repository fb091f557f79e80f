"""Operators and parameters of an ONNX file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from optimizer.errors import OptimizeError
from optimizer.inspection import graph
from optimizer.inspection.graph import read_graph
from tests.models import affine, masked_mean, onnx_bytes

onnx = pytest.importorskip("onnx")


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_operators_and_weights_are_counted(tmp_path: Path) -> None:
    found = read_graph(written(tmp_path / "a.onnx", affine()))
    assert (dict(found.operators), found.n_parameters) == ({"Mul": 1, "Add": 1}, 2)
    found = read_graph(written(tmp_path / "b.onnx", masked_mean()))
    assert found.operators["ReduceSum"] == 2
    assert found.n_parameters == 0, "axes are no weights"


def test_packed_weights_count_one_by_one_and_other_domains_are_named(tmp_path: Path) -> None:
    node = onnx.helper.make_node(
        "MatMulNBits", ["x", "packed"], ["y"], domain="com.microsoft", K=32, N=8, bits=4, block_size=32
    )
    data = onnx_bytes(
        [node], [("x", "FP32", ["batch", 32])], [("y", "FP32", ["batch", 8])], {"packed": np.zeros((8, 1, 16), np.uint8)}
    )
    found = read_graph(written(tmp_path / "a.onnx", data))
    assert (dict(found.operators), found.n_parameters) == ({"com.microsoft.MatMulNBits": 1}, 256)


def test_what_is_inside_a_branch_counts(tmp_path: Path) -> None:
    helper = onnx.helper
    value = helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, [1])
    weight = onnx.numpy_helper.from_array(np.ones(5, np.float32), "w")
    branch = helper.make_graph([helper.make_node("ReduceSum", ["w"], ["z"])], "branch", [], [value], [weight])
    node = helper.make_node("If", ["cond"], ["y"], then_branch=branch, else_branch=branch)
    data = onnx_bytes([node], [("cond", "BOOL", [1])], [("y", "FP32", [1])])
    found = read_graph(written(tmp_path / "a.onnx", data))
    assert dict(found.operators) == {"If": 1, "ReduceSum": 2}
    assert found.n_parameters == 10


def test_what_is_no_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(OptimizeError, match="not an ONNX model"):
        read_graph(written(tmp_path / "a.onnx", b"\xff\xff\xff"))


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "can_read", lambda: False)
    with pytest.raises(OptimizeError, match="pip install onnx"):
        read_graph(tmp_path / "a.onnx")
