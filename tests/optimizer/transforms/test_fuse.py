"""Fusion: fewer operators, the same answers, and a note that lists what was fused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from optimizer.errors import StageFailed
from optimizer.transforms import fuse as module
from optimizer.transforms.fuse import fuse
from tests.optimizer.transforms.graphs import Net, operators, signature, write


def test_an_encoder_as_torch_exports_it(encoder: Net, tmp_path: Path) -> None:
    made = fuse(encoder.path, tmp_path / "fused.onnx", encoder.material, {})
    found = operators(tmp_path / "fused.onnx")
    assert sum(found.values()) == made.data["n_nodes"] < 0.7 * made.data["n_nodes_before"]
    assert made.data["n_nodes_before"] == sum(operators(encoder.path).values())
    attention = {"MultiHeadAttention", "Attention"} & set(made.data["fused"])
    assert [made.data["fused"][name] for name in attention] == [2]
    assert made.data["fused"]["SkipLayerNormalization"] >= 3
    assert {name: found[name] for name in made.data["fused"]} == made.data["fused"], "the note is true"
    assert "Softmax" not in found
    assert signature(tmp_path / "fused.onnx") == signature(encoder.path)
    for wanted, answer in zip(encoder.answers(encoder.path), encoder.answers(tmp_path / "fused.onnx"), strict=True):
        np.testing.assert_allclose(answer, wanted, rtol=1e-3, atol=1e-4)
    assert f"→ {made.data['n_nodes']} nodes" in made.note


def test_padding_still_changes_nothing(encoder: Net, tmp_path: Path) -> None:
    fuse(encoder.path, tmp_path / "fused.onnx", encoder.material, {})
    padded = [{name: np.pad(array, ((0, 0), (0, 5))) for name, array in request.items()} for request in encoder.requests]
    wanted = encoder.answers(encoder.path)
    found = Net(encoder.path, padded, {}).answers(tmp_path / "fused.onnx")
    for one, other in zip(wanted, found, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-3, atol=1e-4)


def test_constants_are_folded_and_dead_nodes_dropped(tmp_path: Path, cnn: Net) -> None:
    nodes = [
        helper.make_node("Add", ["a", "b"], ["sum"]),
        helper.make_node("Mul", ["x", "sum"], ["y"]),
        helper.make_node("Neg", ["x"], ["unused"]),
    ]
    weights = {"a": np.float32([1, 2]), "b": np.float32([3, 4])}
    path = write(
        tmp_path / "m.onnx", nodes, [("x", TensorProto.FLOAT, ["batch", 2])], [("y", TensorProto.FLOAT, ["batch", 2])], weights
    )  # fmt: skip
    net = Net(path, [{"x": np.float32([[1, 1]])}], {})
    made = fuse(path, tmp_path / "f.onnx", net.material, {})
    assert operators(tmp_path / "f.onnx") == {"Mul": 1}
    assert made.note == "no pattern to fuse; 3 → 1 nodes"
    assert net.answers(tmp_path / "f.onnx")[0].tolist() == [[4, 6]]


def test_a_fusion_that_changes_the_answers_is_refused(
    encoder: Net, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    def spoilt(model: onnx.ModelProto) -> onnx.ModelProto:
        table = next(one for one in model.graph.initializer if list(one.dims) == [512, 64])
        table.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(table) * 1.1, table.name))
        return model

    monkeypatch.setattr(module, "_rewrite", spoilt)
    with pytest.raises(StageFailed, match=r"the fused graph answers otherwise: .* times the tolerance"):
        fuse(encoder.path, tmp_path / "f.onnx", encoder.material, {})


def test_a_tool_that_fails_is_quoted(encoder: Net, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxscript.rewriter.ort_fusions as tool

    def broken(*_: object, **__: object) -> None:
        print("trying")
        raise ValueError("no such pattern")

    monkeypatch.setattr(tool, "optimize_for_ort", broken)
    with pytest.raises(StageFailed, match="fusing operators: ValueError: no such pattern") as failure:
        fuse(encoder.path, tmp_path / "f.onnx", encoder.material, {})
    assert "trying" in failure.value.log
    assert not (tmp_path / "f.onnx").exists()
