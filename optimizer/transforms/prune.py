"""The smallest weights set to zero, wherever they are. No runtime here gains from such zeros: the file only compresses better."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from optimizer.errors import StageFailed
from optimizer.transforms.agreement import Reference
from optimizer.transforms.base import Made, Material
from optimizer.transforms.graph import float_weights, load_model, save_model
from optimizer.transforms.options import Between, settle

if TYPE_CHECKING:
    from onnx import ModelProto

NAME = "prune"
OPTIONS = (Between("sparsity", 0.5, 0.0, 0.99, "share of the weights of all layers that become zero"),)

_OPERATORS = ("MatMul", "Gemm", "Conv", "ConvTranspose")


def prune(source: Path, out: Path, material: Material, options: Mapping[str, Any]) -> Made:
    """Global magnitude pruning, unstructured (Han and others 2015). Satisfies Transform."""
    settings = settle(NAME, OPTIONS, options)
    original, made = load_model(source), load_model(source)
    n_zero, n_weights = _set_to_zero(made, settings["sparsity"])
    n_bytes = save_model(made, original, out)
    cosine = Reference(original, material.calibration).compare(made).cosine
    packed = len(zlib.compress(out.read_bytes(), 1))
    note = (
        f"{n_zero:,} of {n_weights:,} weights are zero, agreement with the original {cosine:.5f}; no speed-up: the runtimes here "
        f"multiply zeros like any number, and the file keeps its size ({packed / 1e6:.2f} MB compressed)"
    )
    data = {"n_zero": n_zero, "n_weights": n_weights, "cosine": cosine, "bytes": n_bytes, "bytes_compressed": packed}
    return Made(note, data)


def _set_to_zero(model: ModelProto, sparsity: float) -> tuple[int, int]:
    """(zeros, weights) after the smallest magnitudes over all layers were set to zero; of equal ones the first."""
    from onnx import numpy_helper

    weights = float_weights(model)
    names = dict.fromkeys(node.input[1] for node in model.graph.node if node.op_type in _OPERATORS)
    tensors = [weights[name] for name in names if name in weights]
    if not tensors:
        raise StageFailed("nothing to prune: no MatMul, Gemm or Conv has float32 weights in the file")
    arrays = [numpy_helper.to_array(one) for one in tensors]
    magnitudes = np.concatenate([np.abs(array).ravel() for array in arrays])
    smallest = np.argsort(magnitudes, kind="stable")[: int(sparsity * len(magnitudes))]
    keep = np.ones(len(magnitudes), dtype=np.bool_)
    keep[smallest] = False
    start, n_zero = 0, 0
    for tensor, array in zip(tensors, arrays, strict=True):
        left = array * keep[start : start + array.size].reshape(array.shape)
        start += array.size
        n_zero += int((left == 0).sum())
        tensor.CopyFrom(numpy_helper.from_array(left, tensor.name))
    return n_zero, len(magnitudes)
