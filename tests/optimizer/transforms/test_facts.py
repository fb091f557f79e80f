"""Facts are counted from the file, through the rearrangements that exporters put before a weight."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper

from optimizer.transforms.facts import read_facts
from tests.optimizer.transforms.graphs import Net, constants, write


def test_a_cnn(cnn: Net) -> None:
    facts = read_facts(cnn.path)
    arrays = constants(cnn.path)
    assert facts.operators == {"Add": 1, "Conv": 3, "Flatten": 1, "Gemm": 1, "GlobalAveragePool": 1, "Relu": 2}
    assert facts.n_parameters == sum(array.size for array in arrays.values())
    assert facts.n_bytes == 4 * facts.n_parameters
    assert facts.conv_bytes == sum(arrays[name].nbytes for name in ("w1", "w2", "w3"))
    assert (facts.matmul_bytes, facts.table_bytes) == (arrays["w4"].nbytes, 0)
    assert (facts.has_attention, facts.has_normalization, facts.is_quantized) == (False, False, False)
    assert facts.dtypes == ("FLOAT",)
    assert facts.n_layers == 4


def test_an_encoder(encoder: Net) -> None:
    facts = read_facts(encoder.path)
    assert facts.has_attention
    assert facts.has_normalization
    assert facts.matmul_bytes == 2 * 4 * (4 * 64 * 64 + 2 * 64 * 256)
    assert facts.table_bytes >= 512 * 64 * 4
    assert "FLOAT" in facts.dtypes


def test_weights_behind_a_transpose_and_in_constant_nodes_count(tmp_path: Path) -> None:
    value = helper.make_tensor("value", TensorProto.FLOAT, [4], [1, 2, 3, 4])
    nodes = [
        helper.make_node("Transpose", ["w"], ["turned"]),
        helper.make_node("MatMul", ["x", "turned"], ["m"]),
        helper.make_node("Constant", [], ["bias"], value=value),
        helper.make_node("Add", ["m", "bias"], ["y"]),
    ]
    path = write(
        tmp_path / "m.onnx", nodes, [("x", TensorProto.FLOAT, ["batch", 3])], [("y", TensorProto.FLOAT, ["batch", 4])],
        {"w": np.ones((4, 3), np.float16).astype(np.float32)},
    )  # fmt: skip
    facts = read_facts(path)
    assert (facts.n_parameters, facts.matmul_bytes) == (16, 48)
