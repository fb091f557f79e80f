"""Two tiny ONNX models in a repository: `digits` doubles 64 floats, `minilm` adds up token ids. Tests only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from loadtests.tensors import Array


def sentence(*ids: int) -> dict[str, Array]:
    """One row for `minilm`."""
    return {"input_ids": np.array([ids]), "attention_mask": np.ones((1, len(ids)), np.int64)}


def publish(repository: Path) -> None:
    """Write `digits/1`, `digits/2` and `minilm/1`; skips the test without the onnx package."""
    onnx = pytest.importorskip("onnx")
    helper, kinds = onnx.helper, onnx.TensorProto

    def write(folder: Path, nodes: list[object], inputs: list[object], outputs: list[object]) -> None:
        graph = helper.make_graph(nodes, "g", inputs, outputs)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        folder.mkdir(parents=True)
        onnx.save(model, folder / "model.onnx")

    for version in ("1", "2"):
        write(
            repository / "digits" / version,
            [helper.make_node("Add", ["x", "x"], ["y"])],
            [helper.make_tensor_value_info("x", kinds.FLOAT, ["batch", 64])],
            [helper.make_tensor_value_info("y", kinds.FLOAT, ["batch", 64])],
        )
    write(
        repository / "minilm" / "1",
        [
            helper.make_node("Mul", ["input_ids", "attention_mask"], ["seen"]),
            helper.make_node("ReduceMax", ["seen"], ["sentence"], axes=[1], keepdims=1),
        ],
        [helper.make_tensor_value_info(name, kinds.INT64, ["batch", "n"]) for name in ("input_ids", "attention_mask")],
        [helper.make_tensor_value_info("sentence", kinds.INT64, ["batch", 1])],
    )
