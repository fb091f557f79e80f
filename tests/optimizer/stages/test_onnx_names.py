"""Renaming reaches every place a name can stand in, subgraphs too."""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper

from optimizer.stages.onnx_names import set_names


def test_a_taken_name_moves_away_everywhere() -> None:
    value = helper.make_tensor_value_info
    inner = helper.make_graph(
        [helper.make_node("Add", ["y", "y"], ["z"])], "then", [], [value("z", TensorProto.FLOAT, ["batch"])]
    )
    other = helper.make_graph([helper.make_node("Neg", ["y"], ["w"])], "else", [], [value("w", TensorProto.FLOAT, ["batch"])])
    graph = helper.make_graph(
        [
            helper.make_node("Relu", ["in0"], ["y"]),
            helper.make_node("If", ["flag"], ["out0"], then_branch=inner, else_branch=other),
        ],
        "g",
        [value("in0", TensorProto.FLOAT, ["batch"])],
        [value("out0", TensorProto.FLOAT, ["batch"])],
        [helper.make_tensor("flag", TensorProto.BOOL, [], [True])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    set_names(model, {"in0": "x", "out0": "y"})
    onnx.checker.check_model(model, full_check=True)
    assert [i.name for i in model.graph.input] == ["x"]
    assert [o.name for o in model.graph.output] == ["y"]
    assert list(model.graph.node[0].output) == ["y_inner1"]
    branches = {attribute.name: attribute.g for attribute in model.graph.node[1].attribute}
    assert list(branches["then_branch"].node[0].input) == ["y_inner1", "y_inner1"]
    assert list(branches["else_branch"].node[0].input) == ["y_inner1"]
