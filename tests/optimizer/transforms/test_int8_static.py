"""Static int8: real int8 inside, agreement as promised, and a harmful layer left in float because it was found out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from optimizer.errors import StageFailed
from optimizer.transforms.calibrate import METHODS, find_ranges
from optimizer.transforms.catalog import TRANSFORMS
from optimizer.transforms.int8_static import int8_static
from optimizer.transforms.prepare import prepare
from tests.optimizer.transforms.graphs import Net, alone_and_together, constants, operators, signature, write


def test_a_cnn_is_quantized_from_end_to_end(cnn: Net, tmp_path: Path) -> None:
    made = int8_static(cnn.path, tmp_path / "q.onnx", cnn.material, {})
    assert cnn.cosine(tmp_path / "q.onnx") > 0.999
    assert made.data["cosine"] == pytest.approx(cnn.cosine(tmp_path / "q.onnx"), abs=1e-6)
    assert signature(tmp_path / "q.onnx") == signature(cnn.path)
    assert (tmp_path / "q.onnx").stat().st_size < 0.4 * cnn.path.stat().st_size
    assert made.data["bytes"] == (tmp_path / "q.onnx").stat().st_size
    assert made.note.startswith("6 of 6 layers in int8 (u8 activations, min-max over 6 requests), agreement")
    assert (made.data["scope"], made.data["n_layers"], made.data["left"]) == ("chain", 6, [])
    assert "Relu" not in operators(tmp_path / "q.onnx"), "its range is that of the int8 values"


def test_weights_have_a_scale_per_channel_and_activations_are_unsigned(cnn: Net, tmp_path: Path) -> None:
    int8_static(cnn.path, tmp_path / "q.onnx", cnn.material, {})
    kinds = {name: (array.dtype.name, array.shape) for name, array in constants(tmp_path / "q.onnx").items()}
    assert kinds["w2_quantized"] == ("int8", (48, 48, 3, 3))
    assert kinds["w2_scale"] == ("float32", (48,))
    assert kinds["image_zero_point"] == ("uint8", ())
    assert kinds["b2_quantized"] == ("int32", (48,))


def test_signed_activations_are_symmetric_where_asked_for(cnn: Net, tmp_path: Path) -> None:
    int8_static(cnn.path, tmp_path / "q.onnx", cnn.material, {"activations": "s8"})
    zero_points = {name: array for name, array in constants(tmp_path / "q.onnx").items() if name.endswith("_zero_point")}
    assert {array.dtype.name for array in zero_points.values()} == {"int8", "int32"}
    assert not any(array.any() for array in zero_points.values())
    assert cnn.cosine(tmp_path / "q.onnx") > 0.998


def test_biases_stay_float_where_asked_for(cnn: Net, tmp_path: Path) -> None:
    """As TensorRT reads it: its parser refuses DequantizeLinear of int32."""
    int8_static(cnn.path, tmp_path / "q.onnx", cnn.material, {"activations": "s8", "biases": "float"})
    kinds = {name: array.dtype.name for name, array in constants(tmp_path / "q.onnx").items()}
    assert "int32" not in kinds.values()
    assert (kinds["b2"], kinds["w2_quantized"]) == ("float32", "int8")
    assert cnn.cosine(tmp_path / "q.onnx") > 0.998


def test_seven_bits_leave_room_for_sums(cnn: Net, tmp_path: Path) -> None:
    int8_static(cnn.path, tmp_path / "q.onnx", cnn.material, {"weight_bits": 7, "min_cosine": 0})
    weights = constants(tmp_path / "q.onnx")["w2_quantized"]
    assert 60 <= np.abs(weights.astype(int)).max() <= 64


@pytest.mark.parametrize("method", METHODS)
def test_every_calibration_takes_requests_of_all_lengths(encoder: Net, tmp_path: Path, method: str) -> None:
    made = int8_static(encoder.path, tmp_path / "q.onnx", encoder.material, {"calibration": method, "min_cosine": 0.99})
    assert encoder.cosine(tmp_path / "q.onnx") > 0.99
    assert f"{method} over 8 requests" in made.note
    assert signature(tmp_path / "q.onnx") == signature(encoder.path)


def test_ranges_are_those_of_the_method(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], "layer")]
    path = write(
        tmp_path / "m.onnx", nodes, [("x", TensorProto.FLOAT, ["batch", 1000])], [("y", TensorProto.FLOAT, ["batch", 2])],
        {"w": np.ones((1000, 2), np.float32)},
    )  # fmt: skip
    rng = np.random.default_rng(0)
    requests = [{"x": rng.standard_normal((1, 1000)).astype(np.float32)} for _ in range(20)]
    requests[3]["x"][0, 0] = 50.0
    greatest = {}
    for method in METHODS:
        low, greatest[method] = find_ranges(prepare(path), method, ("MatMul",), requests)["x"]
        assert -5 < low < -2.5
    assert greatest["min-max"] == 50.0
    assert greatest["percentile"] < 6
    assert greatest["entropy"] < 25


def test_a_transformer_keeps_floats_between_its_layers(encoder: Net, tmp_path: Path) -> None:
    made = int8_static(encoder.path, tmp_path / "q.onnx", encoder.material, {})
    assert (made.data["scope"], made.data["n_layers"]) == ("layers", 12)
    assert made.data["cosine"] >= 0.999
    model = onnx.load(tmp_path / "q.onnx")
    quantized = {name for node in model.graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    takes = {node.op_type for node in model.graph.node if quantized & set(node.input)}
    assert takes <= {"MatMul", "Gemm"}
    assert len(made.data["tables"]) == 1
    assert (tmp_path / "q.onnx").stat().st_size < 0.45 * encoder.path.stat().st_size


def test_a_softmax_at_the_end_is_no_attention(cnn: Net, tmp_path: Path) -> None:
    model = onnx.load(cnn.path)
    model.graph.node.append(helper.make_node("Softmax", ["logits"], ["chances"], "last", axis=1))
    model.graph.output[0].name = "chances"
    onnx.save(model, tmp_path / "m.onnx")
    made = int8_static(tmp_path / "m.onnx", tmp_path / "q.onnx", cnn.material, {})
    assert made.data["scope"] == "chain"


def test_a_convolution_before_attention_answers_in_int8(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["c"], "patches", strides=[4, 4]),
        helper.make_node("Flatten", ["c"], ["f"], "flatten"),
        helper.make_node("LayerNormalization", ["f", "gamma"], ["n"], "norm"),
        helper.make_node("MatMul", ["n", "w"], ["m"], "layer"),
        helper.make_node("Mul", ["m", "n"], ["y"], "gate"),
    ]
    weights = {"k": rng.standard_normal((4, 3, 4, 4)), "gamma": np.ones(16), "w": rng.standard_normal((16, 16)) / 4}
    path = write(
        tmp_path / "m.onnx", nodes, [("x", TensorProto.FLOAT, ["batch", 3, 8, 8])], [("y", TensorProto.FLOAT, ["batch", 16])],
        {name: array.astype(np.float32) for name, array in weights.items()},
    )  # fmt: skip
    net = Net(path, [{"x": rng.standard_normal((1, 3, 8, 8)).astype(np.float32)} for _ in range(4)], {})
    made = int8_static(path, tmp_path / "q.onnx", net.material, {"smoothing": "off"})
    assert made.data["scope"] == "layers"
    by_name = {node.name: node for node in onnx.load(tmp_path / "q.onnx").graph.node}
    maker = {name: node.op_type for node in by_name.values() for name in node.output}
    assert maker[by_name["flatten"].input[0]] == "DequantizeLinear"
    assert maker[by_name["layer"].input[0]] == "DequantizeLinear"
    assert maker[by_name["gate"].input[1]] == "LayerNormalization", "others have their floats"
    assert net.cosine(tmp_path / "q.onnx") > 0.999


def test_tables_stay_where_asked(encoder: Net, tmp_path: Path) -> None:
    made = int8_static(encoder.path, tmp_path / "q.onnx", encoder.material, {"tables": "float"})
    assert made.data["tables"] == []
    assert ("float32", (512, 64)) in {(a.dtype.name, a.shape) for a in constants(tmp_path / "q.onnx").values()}


def test_the_harmful_layer_is_found_and_left_in_float(harmed: Net, tmp_path: Path) -> None:
    everything = int8_static(harmed.path, tmp_path / "all.onnx", harmed.material, {"min_cosine": 0, "smoothing": "off"})
    assert harmed.cosine(tmp_path / "all.onnx") < 0.9
    assert everything.data["left"] == []
    made = int8_static(harmed.path, tmp_path / "q.onnx", harmed.material, {"min_cosine": 0.99, "smoothing": "off"})
    assert [one["layers"] for one in made.data["left"]] == [["layer3"]]
    assert harmed.cosine(tmp_path / "q.onnx") > 0.99
    assert "5 of 6 layers in int8" in made.note
    assert "left in float, as they add the most noise: layer3 (" in made.note
    assert made.data["cosine_all_changed"] == pytest.approx(everything.data["cosine"])
    kept = constants(tmp_path / "q.onnx")
    assert [name for name in kept if name.startswith("w3")] == ["w3"]
    assert "w2_quantized" in kept


def test_smoothing_repairs_the_harmful_layer(harmed: Net, tmp_path: Path) -> None:
    made = int8_static(harmed.path, tmp_path / "q.onnx", harmed.material, {})
    assert "louder" in made.data["smoothed"]
    assert made.data["left"] == []
    assert harmed.cosine(tmp_path / "q.onnx") > 0.999


def test_a_graph_without_layers_is_refused(tmp_path: Path, cnn: Net) -> None:
    path = write(
        tmp_path / "m.onnx", [helper.make_node("Relu", ["x"], ["y"])], [("x", TensorProto.FLOAT, ["batch", 2])],
        [("y", TensorProto.FLOAT, ["batch", 2])], {},
    )  # fmt: skip
    material = replace(cnn.material, calibration=[{"x": np.ones((1, 2), np.float32)}])
    with pytest.raises(StageFailed, match=r"nothing to quantize: .*operators: Relu"):
        int8_static(path, tmp_path / "q.onnx", material, {})


def test_what_is_quantized_is_not_quantized_again(cnn: Net, tmp_path: Path) -> None:
    int8_static(cnn.path, tmp_path / "q.onnx", cnn.material, {})
    with pytest.raises(
        StageFailed, match=r"quantized already \(DequantizeLinear, QuantizeLinear\); start from the float model"
    ):
        int8_static(tmp_path / "q.onnx", tmp_path / "again.onnx", cnn.material, {})


def test_rows_do_not_influence_each_other(harmed: Net, tmp_path: Path) -> None:
    assert TRANSFORMS["int8-static"].mixes_rows is None
    int8_static(harmed.path, tmp_path / "q.onnx", harmed.material, {})
    np.testing.assert_allclose(*alone_and_together(harmed, tmp_path / "q.onnx"), rtol=1e-5, atol=1e-6)


def test_an_old_opset_is_raised(tmp_path: Path) -> None:
    weights = {"w": (np.random.default_rng(0).standard_normal((8, 8)) / 3).astype(np.float32)}
    path = write(
        tmp_path / "m.onnx", [helper.make_node("MatMul", ["x", "w"], ["y"])], [("x", TensorProto.FLOAT, ["batch", 8])],
        [("y", TensorProto.FLOAT, ["batch", 8])], weights, opset=10,
    )  # fmt: skip
    net = Net(path, [{"x": np.random.default_rng(1).standard_normal((1, 8)).astype(np.float32)}], {})
    int8_static(path, tmp_path / "q.onnx", net.material, {})
    assert net.cosine(tmp_path / "q.onnx") > 0.999
    assert next(one.version for one in onnx.load(tmp_path / "q.onnx").opset_import) == 13
