"""The rewrite of an exported graph: what it needs of it, and what it says when that is not there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from optimizer.decoder.rewrite import rewrite, rewrite_file
from optimizer.errors import StageFailed
from server.contract.generation import KeptShape
from server.contract.tensors import DataType

KEPT = KeptShape(1, 1, 4, DataType.FP32)


def built() -> onnx.ModelProto:
    """As the exporter writes it: attention with a mask, and logits of every position."""
    cache = ["past_key_values.0.key", "past_key_values.0.value"]
    made = ["present.0.key", "present.0.value"]
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["hidden"]),
        helper.make_node("ReduceSum", ["attention_mask"], ["lengths"]),
        helper.make_node("Shape", ["attention_mask"], ["total"]),
        helper.make_node(
            "GroupQueryAttention", ["hidden", "", "", *cache, "lengths", "total", "cos", "sin"], ["attended", *made],
            domain="com.microsoft", num_heads=1, kv_num_heads=1,
        ),
        helper.make_node("MatMul", ["attended", "head"], ["logits"]),
    ]  # fmt: skip
    weights = {
        "table": np.ones((8, 12)), "head": np.ones((4, 8)), "cos": np.ones((9, 2)), "sin": np.ones((9, 2)), "nobodys": np.ones(2),
    }  # fmt: skip
    initializers = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    ids = [helper.make_tensor_value_info(name, TensorProto.INT64, ["b", "s"]) for name in ("input_ids", "attention_mask")]
    inputs = [*ids, *(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b", 1, "p", "h"]) for name in cache)]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["b", "s", 8])]
    outputs += [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b", 1, "p", "h"]) for name in made]
    return helper.make_model(helper.make_graph(nodes, "built", inputs, outputs, initializers))


def test_the_mask_goes_and_only_wanted_rows_reach_the_head() -> None:
    model = built()
    rewrite(model, KEPT)
    assert [node.op_type for node in model.graph.node] == ["Gather", "GroupQueryAttention", "Reshape", "Gather", "MatMul"]
    assert list(model.graph.node[1].input[5:7]) == ["seqlens_k", "total_sequence_length"]
    assert list(model.graph.node[3].input) == ["flattened_hidden", "logits_indices"]
    assert {one.name for one in model.graph.initializer} == {"table", "head", "cos", "sin", "flattened_hidden_shape"}
    shape = next(one for one in model.graph.initializer if one.name == "flattened_hidden_shape")
    assert numpy_helper.to_array(shape).tolist() == [-1, 4]


def without_attention(model: onnx.ModelProto) -> None:
    model.graph.node[3].op_type = "Attention"


def with_another_head(model: onnx.ModelProto) -> None:
    model.graph.node[4].op_type = "Softmax"


def with_a_made_up_matrix(model: onnx.ModelProto) -> None:
    model.graph.node[4].input[1] = "elsewhere"


def with_positions(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("position_ids", TensorProto.INT64, ["b", "s"]))
    model.graph.node[0].input[1] = "position_ids"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without_attention, "has 0 times GroupQueryAttention, expected is one for each of 1 layers"),
        (with_another_head, "the logits come from Softmax; expected is MatMul or MatMulNBits"),
        (with_a_made_up_matrix, "the matrix of the head, 'elsewhere', is not among the weights"),
        (with_positions, "needs the input 'position_ids', which the server does not have"),
    ],
)
def test_says_what_it_cannot_make_schedulable(damage: Callable[[onnx.ModelProto], None], message: str) -> None:
    model = built()
    damage(model)
    with pytest.raises(StageFailed) as caught:
        rewrite(model, KEPT)
    assert message in str(caught.value)


def test_weights_elsewhere_are_not_left_behind(tmp_path: Path) -> None:
    folder, out = tmp_path / "built", tmp_path / "out"
    folder.mkdir()
    out.mkdir()
    onnx.save_model(built(), folder / "model.onnx", save_as_external_data=True, location="other.bin", size_threshold=0)
    with pytest.raises(StageFailed, match=r"wrote weights to other.bin, expected is model.onnx.data alone"):
        rewrite_file(folder / "model.onnx", out, KEPT)
