"""Outliers moved from a layer's input into its weights, where a scale per channel can take them. Needs onnx."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from optimizer.transforms.agreement import spread
from optimizer.transforms.calibrate import watch
from optimizer.transforms.graph import float_weights, free_name, value_names, weighted_layers
from optimizer.transforms.options import OneOf
from server.backends.base import Array

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

SMOOTHING = OneOf(
    "smoothing", "on", ("on", "off"), "whether a layer's input is divided by channel, and its weights multiplied, where int8 gains"
)  # fmt: skip

_STRENGTHS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_ROWS = 8  # of each request: hundreds of rows tell which strength is best
_LEAST_GAIN = 0.5  # of the noise must go: the division takes time, too
_TINY = 1e-5


def smooth(model: ModelProto, requests: Sequence[Mapping[str, Array]]) -> list[str]:
    """Divide the inputs of MatMuls, channel by channel, and multiply the rows of their matrices by the same, in place. Answers stay.

    SmoothQuant (Xiao and others 2023): the divisor of a channel is (largest input)^a ÷ (largest weight)^(1-a). For each input that a
    is taken which leaves the least error in what its layers answer to real rows when both are rounded to 8 bits, and
    none where that is not at most half the error without. Returns the names of the inputs that are divided.
    """
    groups = _groups(model)
    rows: dict[str, list[Array]] = {name: [] for name in groups}
    most: dict[str, Array] = {}
    for name, array in watch(model, list(groups), requests):
        flat = array.reshape(-1, array.shape[-1])
        most[name] = np.maximum(most.get(name, 0.0), np.abs(flat).max(axis=0, initial=0.0))
        rows[name].extend(spread(list(flat), _ROWS))
    divided = []
    for name, nodes in groups.items():
        divisor = _divisor(np.stack(rows[name]), most[name], np.concatenate([_matrix(model, node) for node in nodes], axis=1))
        if divisor is not None:
            _divide(model, name, nodes, divisor)
            divided.append(name)
    return divided


def _groups(model: ModelProto) -> dict[str, list[NodeProto]]:
    """Inputs → the MatMuls with a matrix of their own that read them."""
    weights, named = float_weights(model), set(weighted_layers(model, ("MatMul",)))
    groups: dict[str, list[NodeProto]] = {}
    for node in model.graph.node:
        if node.name in named and len(weights[node.input[1]].dims) == 2:
            own = sum(node.input[1] in other.input for other in model.graph.node) == 1
            if own:
                groups.setdefault(node.input[0], []).append(node)
    return groups


def _matrix(model: ModelProto, node: NodeProto) -> Array:
    from onnx import numpy_helper

    return np.asarray(numpy_helper.to_array(float_weights(model)[node.input[1]]))


def _divisor(rows: Array, most: Array, matrix: Array) -> Array | None:
    """float32 [channels]; None where no division is worth it. `most`: largest magnitude of each channel."""
    wanted = rows @ matrix
    heaviest = np.abs(matrix).max(axis=1)
    best, least = None, _LEAST_GAIN * _error(rows, matrix, wanted)
    for strength in _STRENGTHS:
        divisor = np.maximum(most, _TINY) ** strength / np.maximum(heaviest, _TINY) ** (1 - strength)
        divisor = (divisor / np.exp(np.log(divisor).mean())).astype(np.float32)
        error = _error(rows / divisor, matrix * divisor[:, None], wanted)
        if error < least:
            best, least = divisor, error
    return best


def _error(rows: Array, matrix: Array, wanted: Array) -> float:
    """Energy that is wrong in rows·matrix when the rows have one 8-bit scale and the matrix has one per column."""
    low, high = min(float(rows.min()), 0.0), max(float(rows.max()), 0.0)
    step = (high - low) / 255 or 1.0
    scales = np.maximum(np.abs(matrix).max(axis=0), _TINY) / 127
    return float(np.sum(np.square((np.rint(rows / step) * step) @ (np.rint(matrix / scales) * scales) - wanted)))


def _divide(model: ModelProto, name: str, nodes: Sequence[NodeProto], divisor: Array) -> None:
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    taken = value_names(model)
    factor, smoothed = free_name(f"{name}_factor", taken), free_name(f"{name}_smooth", taken)
    place = next(place for place, node in enumerate(graph.node) if any(node.name == one.name for one in nodes))
    for node in nodes:
        tensor = float_weights(model)[node.input[1]]
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * divisor[:, None], tensor.name))
        node.input[0] = smoothed
    graph.initializer.append(numpy_helper.from_array((1 / divisor).astype(np.float32), factor))
    graph.value_info.append(helper.make_tensor_value_info(smoothed, TensorProto.FLOAT, None))
    graph.node.insert(place, helper.make_node("Mul", [name, factor], [smoothed], f"{smoothed}_mul"))
