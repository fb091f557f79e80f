"""Dynamic int8: signed weights with a scale per channel, and the noisy layers left in float."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from optimizer.errors import StageFailed
from optimizer.transforms.catalog import TRANSFORMS
from optimizer.transforms.fuse import fuse
from optimizer.transforms.int8_dynamic import int8_dynamic
from tests.optimizer.transforms.graphs import Net, alone_and_together, constants, operators, signature


def test_every_layer_of_an_encoder(encoder: Net, tmp_path: Path) -> None:
    made = int8_dynamic(encoder.path, tmp_path / "q.onnx", encoder.material, {})
    assert operators(tmp_path / "q.onnx")["MatMulInteger"] == 12
    assert made.note.startswith("12 of 12 layers in int8 (dynamic ranges), agreement")
    assert encoder.cosine(tmp_path / "q.onnx") > 0.999
    assert made.data["cosine"] == pytest.approx(encoder.cosine(tmp_path / "q.onnx"), abs=1e-6)
    assert signature(tmp_path / "q.onnx") == signature(encoder.path)
    assert (tmp_path / "q.onnx").stat().st_size < 0.45 * encoder.path.stat().st_size
    assert made.data["bytes"] == (tmp_path / "q.onnx").stat().st_size


def test_weights_are_signed_with_a_scale_per_channel(encoder: Net, tmp_path: Path) -> None:
    int8_dynamic(encoder.path, tmp_path / "q.onnx", encoder.material, {"tables": "float"})
    found = constants(tmp_path / "q.onnx")
    weights = {name: array for name, array in found.items() if name.endswith("_quantized")}
    assert {array.dtype.name for array in weights.values()} == {"int8"}
    assert len(weights) == 12
    scales = [found[name.replace("_quantized", "_scale")] for name in weights]
    assert [scale.shape for scale in scales] == [array.shape[1:] for array in weights.values()]


def test_on_the_fused_graph_too(encoder: Net, tmp_path: Path) -> None:
    fuse(encoder.path, tmp_path / "fused.onnx", encoder.material, {})
    made = int8_dynamic(tmp_path / "fused.onnx", tmp_path / "q.onnx", encoder.material, {})
    assert made.data["n_changed"] == made.data["n_layers"] == 12, "those that Attention had packed, too"
    assert operators(tmp_path / "q.onnx")["MultiHeadAttention"] == 2
    assert encoder.cosine(tmp_path / "q.onnx") > 0.999


def test_rows_of_a_batch_share_a_scale_as_the_catalog_says(harmed: Net, tmp_path: Path) -> None:
    assert TRANSFORMS["int8-dynamic"].mixes_rows
    int8_dynamic(harmed.path, tmp_path / "q.onnx", harmed.material, {})
    assert not np.array_equal(*alone_and_together(harmed, tmp_path / "q.onnx"))


def test_gemm_is_quantized_as_well(cnn: Net, tmp_path: Path) -> None:
    made = int8_dynamic(cnn.path, tmp_path / "q.onnx", cnn.material, {})
    assert made.data["n_layers"] == 1
    assert operators(tmp_path / "q.onnx")["Conv"] == 3
    assert operators(tmp_path / "q.onnx")["MatMulInteger"] == 1
    assert cnn.cosine(tmp_path / "q.onnx") > 0.999


def test_the_harmful_layer_is_left_in_float(harmed: Net, tmp_path: Path) -> None:
    made = int8_dynamic(harmed.path, tmp_path / "q.onnx", harmed.material, {"min_cosine": 0.99, "smoothing": "off"})
    assert [one["layers"] for one in made.data["left"]] == [["layer3"]]
    assert harmed.cosine(tmp_path / "q.onnx") > 0.99
    assert constants(tmp_path / "q.onnx")["w3"].dtype == np.float32


def test_smoothing_repairs_it(harmed: Net, tmp_path: Path) -> None:
    made = int8_dynamic(harmed.path, tmp_path / "q.onnx", harmed.material, {})
    assert "louder" in made.data["smoothed"]
    assert made.data["left"] == []
    assert harmed.cosine(tmp_path / "q.onnx") > 0.999


def test_seven_bits(harmed: Net, tmp_path: Path) -> None:
    int8_dynamic(harmed.path, tmp_path / "q.onnx", harmed.material, {"weight_bits": 7, "min_cosine": 0})
    assert 60 <= np.abs(constants(tmp_path / "q.onnx")["w2_quantized"].astype(int)).max() <= 64


def test_a_graph_of_convolutions_only_is_refused(tmp_path: Path, cnn: Net) -> None:
    import onnx

    model = onnx.load(cnn.path)
    del model.graph.node[-2:]
    model.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("p3", onnx.TensorProto.FLOAT, ["batch", 64, 1, 1]))
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(StageFailed, match="nothing to quantize: no MatMul or Gemm"):
        int8_dynamic(tmp_path / "m.onnx", tmp_path / "q.onnx", cnn.material, {})
