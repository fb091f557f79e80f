"""A graph is made ready whatever shape inference thinks of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from optimizer.errors import StageFailed
from optimizer.transforms.base import Material
from optimizer.transforms.graph import float_values, weighted_layers
from optimizer.transforms.int8_static import int8_static
from optimizer.transforms.prepare import gemm_as_matmul, prepare
from tests.optimizer.transforms.graphs import Net, operators, write


def test_symbolic_inference_may_give_up(cnn: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    from onnxruntime.tools.symbolic_shape_infer import SymbolicShapeInference

    def give_up(*_: object, **__: object) -> None:
        raise RuntimeError("Incomplete symbolic shape inference")

    monkeypatch.setattr(SymbolicShapeInference, "infer_shapes", give_up)
    model = prepare(cnn.path)
    assert weighted_layers(model, ("Conv", "Gemm")) == ["conv1", "conv2", "conv3", "head"]
    assert "c2" in float_values(model)


def test_a_tool_that_fails_both_ways_is_quoted(cnn: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime.quantization.shape_inference as tool

    def fail(*_: object, **__: object) -> None:
        print("on node conv1")
        raise RuntimeError("cannot infer")

    monkeypatch.setattr(tool, "quant_pre_process", fail)
    with pytest.raises(StageFailed, match="preparing the graph for quantization: RuntimeError: cannot infer") as failure:
        prepare(cnn.path)
    assert failure.value.log.count("on node conv1") == 2


def test_a_model_that_the_runtime_refuses_is_a_failed_stage(tmp_path: Path) -> None:
    node = helper.make_node("MatMul", ["x", "w"], ["y"], "layer")
    path = write(
        tmp_path / "m.onnx", [node], [("x", TensorProto.FLOAT, ["batch", 4])], [("y", TensorProto.FLOAT, ["batch", 2])],
        {"w": np.ones((3, 2), np.float32)},
    )  # fmt: skip
    with pytest.raises(StageFailed, match="does not load the model: "):
        int8_static(path, tmp_path / "q.onnx", Material([{"x": np.ones((1, 4), np.float32)}]), {})


def test_types_that_inference_does_not_find_are_completed(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("BiasGelu", ["x", "b"], ["g"], "gelu", domain="com.microsoft"),
        helper.make_node("MatMul", ["g", "w"], ["y"], "layer"),
    ]
    weights = {"b": np.ones(4, np.float32), "w": np.ones((4, 2), np.float32)}
    path = write(
        tmp_path / "m.onnx", nodes, [("x", TensorProto.FLOAT, ["batch", 4])], [("y", TensorProto.FLOAT, ["batch", 2])], weights,
        domains=["com.microsoft"],
    )  # fmt: skip
    assert "g" in float_values(prepare(path))


def test_gemm_becomes_matmul_with_the_same_answers(cnn: Net, tmp_path: Path) -> None:
    model = prepare(cnn.path)
    gemm_as_matmul(model)
    onnx.save(model, tmp_path / "m.onnx")
    assert "Gemm" not in operators(tmp_path / "m.onnx")
    for wanted, found in zip(cnn.answers(cnn.path), cnn.answers(tmp_path / "m.onnx"), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
