"""What is written loads, has the inputs and outputs that it had, and tells nothing of the machine that made it."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from optimizer.errors import StageFailed
from optimizer.transforms.graph import count_operators, load_model, name_nodes, save_model
from tests.models import affine
from tests.optimizer.transforms.graphs import signature, write


def model() -> onnx.ModelProto:
    return onnx.load_from_string(affine())


def test_a_file_that_is_no_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(StageFailed, match=r"model\.onnx cannot be read as an ONNX model"):
        load_model(tmp_path / "model.onnx")


def test_weights_beside_the_file_end_up_inside(tmp_path: Path) -> None:
    onnx.save(model(), tmp_path / "given.onnx", save_as_external_data=True, size_threshold=0, location="weights.bin")
    assert (tmp_path / "weights.bin").exists()
    (tmp_path / "made").mkdir()
    save_model(load_model(tmp_path / "given.onnx"), model(), tmp_path / "made" / "model.onnx")
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["model.onnx"]
    assert signature(tmp_path / "made" / "model.onnx")[0] == ("x", "tensor(float)", ["batch", 4])


def test_axes_that_a_tool_lost_are_free_again(tmp_path: Path) -> None:
    lost = model()
    lost.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    save_model(lost, model(), tmp_path / "model.onnx")
    assert [shape for _, _, shape in signature(tmp_path / "model.onnx")] == [["batch", 4], ["batch", 4]]


def test_other_outputs_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    other = model()
    other.graph.output[0].name = "scaled"
    with pytest.raises(StageFailed, match=r"the outputs became \['scaled'\], they were \['y'\]"):
        save_model(other, model(), tmp_path / "model.onnx")
    broken = model()
    broken.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(StageFailed, match=r"does not load what was made: .*NoSuchOperator"):
        save_model(broken, model(), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_notes_and_domains_that_nobody_uses_are_dropped(tmp_path: Path) -> None:
    noted, like = model(), model()
    noted.graph.node[0].doc_string = "/home/somebody/model.py"
    noted.metadata_props.add(key="made by", value="a tool")
    noted.opset_import.append(helper.make_opsetid("ai.onnx.training", 1))
    like.metadata_props.add(key="author", value="somebody")
    save_model(noted, like, tmp_path / "model.onnx")
    made = onnx.load(tmp_path / "model.onnx")
    assert made.graph.node[0].doc_string == ""
    assert [(one.key, one.value) for one in made.metadata_props] == [("author", "somebody")]
    assert [one.domain for one in made.opset_import] == [""]


def test_every_node_gets_a_name_of_its_own() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"], "r"),
        helper.make_node("Relu", ["b"], ["y"], "r"),
    ]
    graph = helper.make_graph(nodes, "g", [], [])
    made = helper.make_model(graph)
    name_nodes(made)
    assert [node.name for node in made.graph.node] == ["Relu_0", "r", "Relu_2"]


def test_operators_inside_branches_are_counted(tmp_path: Path) -> None:
    def branch(operator: str) -> onnx.GraphProto:
        return helper.make_graph(
            [helper.make_node(operator, ["x"], ["z"])], operator, [], [helper.make_tensor_value_info("z", 1, None)]
        )

    node = helper.make_node("If", ["flag"], ["y"], then_branch=branch("Relu"), else_branch=branch("Neg"))
    inputs = [("x", TensorProto.FLOAT, ["batch", 2]), ("flag", TensorProto.BOOL, [1])]
    path = write(tmp_path / "model.onnx", [node], inputs, [("y", TensorProto.FLOAT, None)], {})
    assert count_operators(onnx.load(path)) == {"If": 1, "Relu": 1, "Neg": 1}
