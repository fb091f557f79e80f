"""Attention with its projections inside → MatMuls and MultiHeadAttention: what has a matrix of its own can be quantized. Needs onnx."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from optimizer.transforms.graph import float_weights, free_name, value_names

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

_VENDOR = "com.microsoft"
_SAME = ("num_heads", "scale", "mask_filter_value", "unidirectional")
_PARTS = ("query", "key", "value")
_BIAS, _SCORES_BIAS = 2, 5


def unpack_attention(model: ModelProto) -> int:
    """Replace ONNX Runtime's Attention, in place, where its packed matrix is a constant and it has neither past nor mask index; how
    many were replaced.

    The answers stay. The packed operator is hardly faster, and its matrix cannot be quantized where the mask comes as a bias of the
    scores, which is how exporters write it.
    """
    places = [place for place, node in enumerate(model.graph.node) if _can_be_unpacked(model, node)]
    for place in reversed(places):
        _unpack(model, place)
    return len(places)


def _can_be_unpacked(model: ModelProto, node: NodeProto) -> bool:
    if node.op_type != "Attention" or node.domain != _VENDOR or len(node.output) != 1:
        return False
    known = {one.name for one in node.attribute} <= {*_SAME, "qkv_hidden_sizes"}
    others = [name for place, name in enumerate(node.input[_BIAS + 1 :], _BIAS + 1) if place != _SCORES_BIAS]
    return known and not any(others) and node.input[1] in float_weights(model)


def _unpack(model: ModelProto, place: int) -> None:
    from onnx import helper, numpy_helper

    graph, node = model.graph, model.graph.node[place]
    packed = numpy_helper.to_array(float_weights(model)[node.input[1]])
    attributes = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    sizes = attributes.pop("qkv_hidden_sizes", None) or [packed.shape[1] // 3] * 3
    taken = value_names(model)
    values, made = [], []
    for part, matrix in zip(_PARTS, np.split(packed, np.cumsum(sizes)[:-1], axis=1), strict=True):
        weight, value = free_name(f"{node.input[1]}_{part}", taken), free_name(f"{node.output[0]}_{part}", taken)
        taken |= {weight, value}
        graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(matrix), weight))
        made.append(helper.make_node("MatMul", [node.input[0], weight], [value], f"{node.name}_{part}"))
        values.append(value)
    bias = node.input[_BIAS] if len(node.input) > _BIAS else ""
    scores_bias = node.input[_SCORES_BIAS] if len(node.input) > _SCORES_BIAS else ""
    inputs = [*values, bias, "", scores_bias]
    while not inputs[-1]:
        inputs.pop()
    made.append(
        helper.make_node("MultiHeadAttention", inputs, list(node.output), f"{node.name}_heads", domain=_VENDOR, **attributes)
    )  # fmt: skip
    name = node.input[1]
    graph.node.remove(node)
    for offset, one in enumerate(made):
        graph.node.insert(place + offset, one)
    if not any(name in other.input for other in graph.node):
        graph.initializer.remove(float_weights(model)[name])
