"""Smoothing keeps the answers, and is done only where 8 bits gain from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from optimizer.transforms.graph import load_model, save_model
from optimizer.transforms.prepare import prepare
from optimizer.transforms.smooth import smooth
from tests.optimizer.transforms.graphs import Net, constants, write


def two_readers(path: Path, loud: float, weights: tuple[str, str] = ("w0", "w1")) -> Net:
    """x → two MatMuls, side by side; one channel of x is `loud` times the others."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("MatMul", ["x", weights[0]], ["a"], "first"),
        helper.make_node("MatMul", ["x", weights[1]], ["b"], "second"),
        helper.make_node("Concat", ["a", "b"], ["y"], "both", axis=1),
    ]
    matrices = {name: rng.standard_normal((16, 8)).astype(np.float32) for name in weights}
    write(path, nodes, [("x", TensorProto.FLOAT, ["batch", 16])], [("y", TensorProto.FLOAT, ["batch", 16])], matrices)
    requests = [{"x": rng.standard_normal((1, 16)).astype(np.float32)} for _ in range(20)]
    for request in requests:
        request["x"][0, 3] *= loud
    return Net(path, requests, {})


def test_answers_stay_and_the_channel_is_even_with_the_others(tmp_path: Path) -> None:
    net = two_readers(tmp_path / "m.onnx", 1000.0)
    model = prepare(net.path)
    assert smooth(model, net.requests) == ["x"]
    assert [node.input[0] for node in model.graph.node if node.op_type == "MatMul"] == ["x_smooth", "x_smooth"]
    save_model(model, load_model(net.path), tmp_path / "s.onnx")
    for wanted, found in zip(net.answers(net.path), net.answers(tmp_path / "s.onnx"), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-3)
    factor = constants(tmp_path / "s.onnx")["x_factor"]
    most = np.max([np.abs(request["x"][0]) * factor for request in net.requests], axis=0)
    assert most.max() / np.median(most) < 100, "a thousand before"


def test_even_channels_are_left_alone(tmp_path: Path) -> None:
    net = two_readers(tmp_path / "m.onnx", 1.0)
    model = prepare(net.path)
    before = model.SerializeToString()
    assert smooth(model, net.requests) == []
    assert model.SerializeToString() == before


def test_a_matrix_that_two_layers_share_is_left_alone(tmp_path: Path) -> None:
    net = two_readers(tmp_path / "m.onnx", 1000.0, ("w", "w"))
    model = onnx.load(net.path)
    assert smooth(model, net.requests) == []
