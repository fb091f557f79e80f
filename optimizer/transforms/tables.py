"""Embedding tables in int8, each row with a scale of its own: the lookup's result is what is turned back into floats. Needs onnx."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from optimizer.transforms.graph import float_weights, free_name, nodes_of, value_names
from optimizer.transforms.options import OneOf
from server.backends.base import Array

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

LEAST_BYTES = 1 << 16

TABLES = OneOf("tables", "int8", ("int8", "float"), "what embedding tables are stored as; int8 has a scale for each row")


def shrink_tables(model: ModelProto) -> list[str]:
    """Store large tables of embeddings as int8, in place; their names.

    A table is a float32 matrix that only Gather reads, by row. int8 = round(row ÷ scale), scale = largest magnitude of the row ÷ 127;
    Gather picks rows and scales, and their product has the old name. Quantizers know one scale for a whole table, which costs
    the rare words' small rows their meaning.
    """
    names = _tables(model)
    for name in names:
        _replace(model, name)
    return names


def _tables(model: ModelProto) -> list[str]:
    found = []
    outputs = {one.name for one in model.graph.output}
    for name, tensor in float_weights(model).items():
        readers = [node for node in model.graph.node if name in node.input]
        n_everywhere = sum(name in node.input for node in nodes_of(model))
        large = len(tensor.dims) == 2 and tensor.dims[0] * tensor.dims[1] * 4 >= LEAST_BYTES
        known = name not in outputs and len(readers) == n_everywhere > 0
        if large and known and all(_picks_rows(node, name) for node in readers):
            found.append(name)
    return found


def _picks_rows(node: NodeProto, table: str) -> bool:
    axis = next((one.i for one in node.attribute if one.name == "axis"), 0)
    return node.op_type == "Gather" and node.input[0] == table and axis == 0


def _replace(model: ModelProto, table: str) -> None:
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    taken = value_names(model)
    rows_name, scales_name = free_name(f"{table}_rows", taken), free_name(f"{table}_scales", taken)
    old = next(one for one in graph.initializer if one.name == table)
    rows, scales = _quantize(numpy_helper.to_array(old))
    graph.initializer.remove(old)
    graph.initializer.extend([numpy_helper.from_array(rows, rows_name), numpy_helper.from_array(scales, scales_name)])
    for place, node in reversed(list(enumerate(graph.node))):
        if node.op_type != "Gather" or node.input[0] != table:
            continue
        ids, result, name = node.input[1], node.output[0], node.name or f"lookup_{place}"
        new = [
            helper.make_node("Gather", [rows_name, ids], [f"{result}_rows"], f"{name}_rows", axis=0),
            helper.make_node("Gather", [scales_name, ids], [f"{result}_scales"], f"{name}_scales", axis=0),
            helper.make_node("Cast", [f"{result}_rows"], [f"{result}_unscaled"], f"{name}_cast", to=TensorProto.FLOAT),
            helper.make_node("Mul", [f"{result}_unscaled", f"{result}_scales"], [result], f"{name}_scaled"),
        ]
        graph.node.remove(node)
        for offset, one in enumerate(new):
            graph.node.insert(place + offset, one)


def _quantize(table: Array) -> tuple[Array, Array]:
    """(int8 [rows, n], float32 [rows, 1]) of float32 [rows, n]."""
    largest = np.abs(table).max(axis=1, keepdims=True)
    scales = np.where(largest > 0, largest / 127, 1).astype(np.float32)
    return np.clip(np.rint(table / scales), -127, 127).astype(np.int8), scales
