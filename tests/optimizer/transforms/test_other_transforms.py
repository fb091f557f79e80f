"""fp16, weights in blocks, pruning, low rank: each keeps what it promises, and says what it costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from optimizer.errors import StageFailed
from optimizer.transforms.base import Transform
from optimizer.transforms.fp16 import fp16
from optimizer.transforms.low_rank import low_rank
from optimizer.transforms.prune import prune
from optimizer.transforms.weights_only import weights_int4, weights_int8
from tests.optimizer.transforms.graphs import Net, constants, operators, signature, write


def test_fp16_halves_the_file(cnn: Net, encoder: Net, tmp_path: Path) -> None:
    for net in (cnn, encoder):
        made = fp16(net.path, tmp_path / "h.onnx", net.material, {})
        assert (tmp_path / "h.onnx").stat().st_size < 0.65 * net.path.stat().st_size
        assert signature(tmp_path / "h.onnx") == signature(net.path)
        assert net.cosine(tmp_path / "h.onnx") > 0.99999
        assert made.data["cosine"] > 0.99999


def test_values_beyond_fp16_are_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("Mul", ["x", "big"], ["m"]), helper.make_node("Mul", ["m", "m"], ["y"])]
    path = write(
        tmp_path / "m.onnx", nodes, [("x", TensorProto.FLOAT, ["batch", 2])], [("y", TensorProto.FLOAT, ["batch", 2])],
        {"big": np.float32([60000, 60000])},
    )  # fmt: skip
    net = Net(path, [{"x": np.float32([[1, 2]])}], {})
    with pytest.raises(StageFailed, match=r"value 'y' inside reaches 1\.44e\+10, fp16 ends at 65504"):
        fp16(path, tmp_path / "h.onnx", net.material, {})


@pytest.mark.parametrize(
    ("transform", "options", "most_bytes", "least_cosine"),
    [
        (weights_int8, {}, 0.5, 0.9999),
        (weights_int8, {"block": 32, "arithmetic": "float"}, 0.5, 0.9999),
        (weights_int4, {}, 0.4, 0.98),
        (weights_int4, {"method": "hqq", "arithmetic": "float"}, 0.4, 0.98),
        (weights_int4, {"tables": "float"}, 0.6, 0.98),
    ],
)
def test_weights_in_blocks(
    encoder: Net, tmp_path: Path, transform: Transform, options: dict[str, Any], most_bytes: float, least_cosine: float
) -> None:
    made = transform(encoder.path, tmp_path / "w.onnx", encoder.material, options)
    assert operators(tmp_path / "w.onnx")["MatMulNBits"] == made.data["n_changed"] >= 6
    assert encoder.cosine(tmp_path / "w.onnx") > least_cosine
    assert made.data["cosine"] == pytest.approx(encoder.cosine(tmp_path / "w.onnx"), abs=1e-5)
    assert signature(tmp_path / "w.onnx") == signature(encoder.path)
    assert (tmp_path / "w.onnx").stat().st_size < most_bytes * encoder.path.stat().st_size


def test_pruning_takes_the_smallest_weights_of_all_layers(cnn: Net, tmp_path: Path) -> None:
    made = prune(cnn.path, tmp_path / "p.onnx", cnn.material, {"sparsity": 0.3})
    before, after = constants(cnn.path), constants(tmp_path / "p.onnx")
    names = ("w1", "w2", "w3", "w4")
    old, new = (np.concatenate([arrays[name].ravel() for name in names]) for arrays in (before, after))
    assert int((new == 0).sum()) == int(0.3 * old.size) == made.data["n_zero"]
    assert np.abs(old[new == 0]).max() <= np.abs(old[new != 0]).min()
    assert np.array_equal(old[new != 0], new[new != 0])
    assert np.array_equal(before["b1"], after["b1"])
    assert "no speed-up" in made.note
    assert made.data["bytes_compressed"] < made.data["bytes"]
    assert made.data["cosine"] == pytest.approx(cnn.cosine(tmp_path / "p.onnx"), abs=1e-6)


def thin(path: Path) -> Net:
    """A matrix of rank 6 and a full one in front of it, a 1x1 Conv of rank 4 in front of both."""
    rng = np.random.default_rng(0)

    def of_rank(n_in: int, n_out: int, rank: int) -> Any:
        return (rng.standard_normal((n_in, rank)) @ rng.standard_normal((rank, n_out)) / rank).astype(np.float32)

    nodes = [
        helper.make_node("Conv", ["x", "k", "kb"], ["c"], "conv", strides=[2, 2]),
        helper.make_node("Flatten", ["c"], ["f"]),
        helper.make_node("MatMul", ["f", "full"], ["m"], "full"),
        helper.make_node("Relu", ["m"], ["r"]),
        helper.make_node("Gemm", ["r", "w", "b"], ["y"], "flat", transB=1),
    ]
    weights = {
        "k": of_rank(32, 32, 4)[:, :, None, None], "kb": np.ones(32, np.float32),
        "full": (rng.standard_normal((128, 64)) / 12).astype(np.float32), "w": of_rank(48, 64, 6), "b": np.ones(48, np.float32),
    }  # fmt: skip
    write(path, nodes, [("x", TensorProto.FLOAT, ["batch", 32, 4, 4])], [("y", TensorProto.FLOAT, ["batch", 48])], weights)
    return Net(path, [{"x": rng.standard_normal((1, 32, 4, 4)).astype(np.float32)} for _ in range(40)], {})


def test_layers_of_low_rank_are_split_and_others_kept(tmp_path: Path) -> None:
    net = thin(tmp_path / "m.onnx")
    made = low_rank(net.path, tmp_path / "l.onnx", net.material, {"energy": 0.9999, "min_cosine": 0.99})
    ranks = {name.split("_")[0]: rank for name, rank in made.data["ranks"].items()}
    assert ranks["conv"] <= 4
    assert ranks["flat"] <= 6
    assert operators(tmp_path / "l.onnx")["Conv"] == 2
    assert net.cosine(tmp_path / "l.onnx") > 0.999
    assert signature(tmp_path / "l.onnx") == signature(net.path)
    assert (tmp_path / "l.onnx").stat().st_size < net.path.stat().st_size


def test_where_no_layer_is_of_low_rank_it_says_so(cnn: Net, tmp_path: Path) -> None:
    with pytest.raises(StageFailed, match=r"no layer is of low rank: keeping 1 of the energy"):
        low_rank(cnn.path, tmp_path / "l.onnx", cnn.material, {"energy": 1.0})
