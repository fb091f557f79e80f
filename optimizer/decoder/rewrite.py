"""Makes an exported decoder schedulable: rows of any length in slots of their own, and logits only where they are wanted. Needs onnx.

The weights stay in the file beside it, untouched.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from optimizer.errors import StageFailed
from server.contract.generation import KeptShape

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, ValueInfoProto

MODEL, DATA = "model.onnx", "model.onnx.data"
"""A decoder's file, and the one beside it that has its weights."""

ATTENTION = "GroupQueryAttention"
_SEQLENS, _TOTAL = 5, 6
"""Places among the inputs of ATTENTION: tokens kept of each row less 1, and the most of them plus 1."""

_HEADS = ("MatMul", "MatMulNBits")
_FLAT = "flattened_hidden"


def rewrite_file(built: Path, out: Path, kept: KeptShape) -> int:
    """Writes MODEL and DATA into the folder `out`, from the exporter's file and its DATA; how many nodes the graph has.

    Raises StageFailed when the graph is not what is expected.
    """
    import onnx

    model = onnx.load(built, load_external_data=False)
    rewrite(model, kept)
    strangers = {entry.value for tensor in model.graph.initializer for entry in tensor.external_data if entry.key == "location"}
    if strangers - {DATA}:
        raise StageFailed(f"the exporter wrote weights to {', '.join(sorted(strangers))}, expected is {DATA} alone")
    shutil.move(built.with_name(DATA), out / DATA)
    onnx.save_model(model, out / MODEL)
    return len(model.graph.node)


def rewrite(model: ModelProto, kept: KeptShape) -> None:
    """In place. Inputs become `input_ids` int64 [batch, tokens], `seqlens_k` int32 [batch], `total_sequence_length` int32 [],
    `logits_indices` int64 [rows] and `past_key_values.{layer}.key|value` [batch, heads, longest, head size]; outputs `logits` float32
    [rows, vocabulary] and `present.{layer}.key|value`.

    `kept`: what the checkpoint says of its cache. Raises StageFailed when the graph's attention is of another kind or number, its
    logits do not come from a matrix, or it needs another input.
    """
    graph = model.graph
    attentions = [node for node in graph.node if node.op_type == ATTENTION]
    if len(attentions) != kept.layers:
        raise StageFailed(
            f"the exported graph has {len(attentions)} times {ATTENTION}, expected is one for each of {kept.layers} layers"
        )
    for node in attentions:
        node.input[_SEQLENS], node.input[_TOTAL] = "seqlens_k", "total_sequence_length"
    _pick_rows(graph)
    _drop_unused(graph)
    _declare(graph, ("batch", kept.heads, "longest", kept.head_size))
    del graph.value_info[:]


def _pick_rows(graph: GraphProto) -> None:
    """The head sees rows of all hidden ones, flattened."""
    from onnx import helper, numpy_helper

    head = next((node for node in graph.node if "logits" in node.output), None)
    if head is None or head.op_type not in _HEADS:
        found = "nothing" if head is None else head.op_type
        raise StageFailed(f"the logits come from {found}; expected is {' or '.join(_HEADS)}, whose rows can be picked")
    hidden = _hidden_size(graph, head)
    graph.initializer.append(numpy_helper.from_array(np.array([-1, hidden], np.int64), f"{_FLAT}_shape"))
    place = list(graph.node).index(head)
    flat = helper.make_node("Reshape", [head.input[0], f"{_FLAT}_shape"], [_FLAT], _FLAT)
    picked = helper.make_node("Gather", [_FLAT, "logits_indices"], ["picked_hidden"], "picked_hidden", axis=0)
    head.input[0] = "picked_hidden"
    graph.node.insert(place, picked)
    graph.node.insert(place, flat)


def _hidden_size(graph: GraphProto, head: NodeProto) -> int:
    """Rows of the head's matrix."""
    for attribute in head.attribute:
        if attribute.name == "K":
            return int(attribute.i)
    matrix = next((one for one in graph.initializer if one.name == head.input[1]), None)
    if matrix is None:
        raise StageFailed(f"the matrix of the head, {head.input[1]!r}, is not among the weights")
    return int(matrix.dims[0])


def _drop_unused(graph: GraphProto) -> None:
    """Nodes whose outputs nobody reads, and then weights and inputs that nobody reads."""
    kept: list[NodeProto] = []
    wanted = {one.name for one in graph.output}
    for node in reversed(graph.node):
        if wanted.intersection(node.output):
            kept.append(node)
            wanted.update(node.input)
    del graph.node[:]
    graph.node.extend(reversed(kept))
    for values in (graph.initializer, graph.input):
        unused = [one for one in values if one.name not in wanted]
        for one in unused:
            values.remove(one)


def _declare(graph: GraphProto, kept: Sequence[str | int]) -> None:
    """Inputs and outputs with their types and shapes."""
    from onnx import TensorProto, helper

    past = {one.name: one for one in graph.input if one.name.startswith("past_key_values.")}
    strange = sorted({one.name for one in graph.input} - set(past) - {"input_ids"})
    if strange:
        raise StageFailed(f"the exported graph needs the input {strange[0]!r}, which the server does not have")

    def again(one: ValueInfoProto) -> ValueInfoProto:
        return helper.make_tensor_value_info(one.name, one.type.tensor_type.elem_type, kept)

    inputs = [
        helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "tokens"]),
        helper.make_tensor_value_info("seqlens_k", TensorProto.INT32, ["batch"]),
        helper.make_tensor_value_info("total_sequence_length", TensorProto.INT32, []),
        helper.make_tensor_value_info("logits_indices", TensorProto.INT64, ["rows"]),
        *(again(one) for one in past.values()),
    ]
    logits = next(one for one in graph.output if one.name == "logits")
    vocabulary = logits.type.tensor_type.shape.dim[-1].dim_value
    outputs = [
        helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", vocabulary]),
        *(again(one) for one in graph.output if one.name != "logits"),
    ]
    del graph.input[:], graph.output[:]
    graph.input.extend(inputs)
    graph.output.extend(outputs)
