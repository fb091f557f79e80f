"""Unpacked attention answers as packed attention does, mask and all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from optimizer.transforms.graph import save_model
from optimizer.transforms.unpack import unpack_attention
from tests.optimizer.transforms.graphs import Net, operators, write

SIZES = {"qkv_hidden_sizes": [8, 8, 8]}


def packed(path: Path, inputs: list[str], **attributes: object) -> Net:
    rng = np.random.default_rng(0)
    node = helper.make_node("Attention", inputs, ["y"], "attention", domain="com.microsoft", num_heads=2, **attributes)
    weights = {"w": rng.standard_normal((8, 24)), "b": rng.standard_normal(24), "past": np.zeros((2, 1, 2, 0, 4))}
    constants = {name: array.astype(np.float32) for name, array in weights.items() if name in inputs}
    given = {"x": ["batch", "n", 8], "scores": ["batch", 2, "n", "n"]}
    declared = [(name, TensorProto.FLOAT, axes) for name, axes in given.items() if name in inputs]
    write(path, [node], declared, [("y", TensorProto.FLOAT, ["batch", "n", 8])], constants, domains=["com.microsoft"])
    one = {"x": rng.standard_normal((1, 5, 8)).astype(np.float32), "scores": np.zeros((1, 2, 5, 5), np.float32)}
    one["scores"][..., 3:] = -10000
    return Net(path, [{name: one[name] for name, _, _ in declared}], {})


@pytest.mark.parametrize("inputs", [["x", "w", "b", "", "", "scores"], ["x", "w", "b"]])
@pytest.mark.parametrize("attributes", [SIZES, {}, {"scale": 0.3}, {"unidirectional": 1}])
def test_answers_stay(tmp_path: Path, inputs: list[str], attributes: dict[str, object]) -> None:
    net = packed(tmp_path / "m.onnx", inputs, **attributes)
    model = onnx.load(net.path)
    assert unpack_attention(model) == 1
    save_model(model, onnx.load(net.path), tmp_path / "u.onnx")
    assert operators(tmp_path / "u.onnx") == {"MatMul": 3, "MultiHeadAttention": 1}
    np.testing.assert_allclose(net.answers(tmp_path / "u.onnx")[0], net.answers(net.path)[0], rtol=1e-4, atol=1e-5)
    assert (tmp_path / "u.onnx").stat().st_size < net.path.stat().st_size + 600, "the packed matrix is gone"


def test_one_with_a_past_stays(tmp_path: Path) -> None:
    packed(tmp_path / "m.onnx", ["x", "w", "b", "", "past"])
    model = onnx.load(tmp_path / "m.onnx")
    assert unpack_attention(model) == 0
    assert [node.op_type for node in model.graph.node] == ["Attention"]
