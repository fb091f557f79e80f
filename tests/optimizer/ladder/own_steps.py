"""Transforms as a user would write them, and as nobody should; for the tests of the ladder. Recipes name them by file."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from optimizer.transforms.base import Made, Material

FRONT, HEAVY = "front", "heavy"
"""Names of the weights of `heavy_model`: what matters, and what only takes time."""


def heavy_model(n_heavy: int = 40, wide: int = 160) -> bytes:
    """y = x · front, and beside it `n_heavy` products of matrices that add nothing to speak of. FP32 [batch, 4] → [batch, 3]."""
    rng = np.random.default_rng(0)
    weights = {
        FRONT: rng.standard_normal((4, 3)), "widen": rng.standard_normal((4, wide)),
        HEAVY: rng.standard_normal((wide, wide)) / np.sqrt(wide), "tiny": np.float32(1e-9),
    }  # fmt: skip
    nodes = [helper.make_node("MatMul", ["x", FRONT], ["right"]), helper.make_node("MatMul", ["x", "widen"], ["h0"])]
    nodes += [helper.make_node("MatMul", [f"h{number}", HEAVY], [f"h{number + 1}"]) for number in range(n_heavy)]
    nodes += [
        helper.make_node("ReduceMean", [f"h{n_heavy}"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("Mul", ["mean", "tiny"], ["nothing"]),
        helper.make_node("Add", ["right", "nothing"], ["y"]),
    ]
    ports = [helper.make_tensor_value_info(name, 1, ["batch", size]) for name, size in (("x", 4), ("y", 3))]
    initializers = [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "heavy", [ports[0]], [ports[1]], initializers)
    data: bytes = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()
    return data


def light(model: Path, output: Path, material: Material, options: Mapping[str, Any]) -> Made:
    """Leaves out what takes time. Option `gain`: multiplies the weights, which changes no direction, so no cosine either."""
    found = _light(onnx.load(model), float(options.get("gain", 1.0)))
    onnx.save(found, output)
    return Made(f"left out what adds nothing; {len(material.calibration)} samples were there")


def wrong(model: Path, output: Path, material: Material, options: Mapping[str, Any]) -> Made:
    """Fast, and answers something else."""
    found = _light(onnx.load(model), 1.0)
    weight = found.graph.initializer[0]
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight)[:, ::-1].copy(), FRONT))
    onnx.save(found, output)
    return Made("mirrored the weights")


def _light(model: Any, gain: float) -> Any:
    weight = next(one for one in model.graph.initializer if one.name == FRONT)
    weight = numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(gain), FRONT)
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.append(helper.make_node("MatMul", ["x", FRONT], ["y"]))
    model.graph.initializer.append(weight)
    return model


def slow(model: Path, output: Path, material: Material, options: Mapping[str, Any]) -> Made:
    """Right, and takes much longer."""
    output.write_bytes(heavy_model(160))
    return Made("did more of the same")


def same(model: Path, output: Path, material: Material, options: Mapping[str, Any]) -> Made:
    """Changes nothing."""
    output.write_bytes(model.read_bytes())
    return Made("nothing")


def abort(model: Path, output: Path, material: Material, options: Mapping[str, Any]) -> Made:
    """Takes its process down."""
    os.abort()


def hang(model: Path, output: Path, material: Material, options: Mapping[str, Any]) -> Made:
    """Never comes back."""
    while True:
        time.sleep(0.01)


def eat(model: Path, output: Path, material: Material, options: Mapping[str, Any]) -> Made:
    """Takes 3 GB, if nobody stops it."""
    eaten = []
    while len(eaten) < 60:
        eaten.append(b"x" * 50_000_000)
        time.sleep(0.02)
    return Made(f"ate {len(eaten)}")


def fail(model: Path, output: Path, material: Material, options: Mapping[str, Any]) -> Made:
    """Has a bug."""
    raise ValueError("no such luck")


def nothing(model: Path, output: Path, material: Material, options: Mapping[str, Any]) -> Made:
    """Forgets to write."""
    return Made("done")


def broken(model: Path, output: Path, material: Material, options: Mapping[str, Any]) -> Made:
    """Writes what is no model."""
    output.write_bytes(b"no model")
    return Made("done")
