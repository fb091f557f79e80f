"""What is inside an ONNX file: its operators and how many parameters it has. Needs onnx; no weights are judged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import util
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from optimizer.errors import OptimizeError

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto, TensorProto

_PACKED = "MatMulNBits"
"""Its weights are packed into bytes, several to one."""


@dataclass(frozen=True, slots=True)
class Graph:
    """Operators by count, subgraphs included, those of another domain than ONNX's own as domain.Operator. `n_parameters`: weights,
    of whatever type, without the integers that shapes and indices are made of."""

    operators: Counter[str]
    n_parameters: int


def can_read() -> bool:
    """Whether onnx is installed."""
    return util.find_spec("onnx") is not None


def read_graph(path: Path) -> Graph:
    """Raises OptimizeError when onnx is missing, or the file is not an ONNX model."""
    if not can_read():
        raise OptimizeError(f"reading the operators of {path.name} needs onnx: pip install onnx")
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(path, load_external_data=False)
    except (OSError, DecodeError) as error:
        raise OptimizeError(f"{path}: not an ONNX model that can be read: {error}") from None
    graphs = list(_graphs(model.graph))
    nodes = [node for graph in graphs for node in graph.node]
    packed = _packed_sizes(nodes)
    weights = (tensor for graph in graphs for tensor in graph.initializer)
    return Graph(Counter(_name(node) for node in nodes), sum(packed.get(one.name, 1) * _size(one) for one in weights))


def _graphs(graph: GraphProto) -> Iterator[GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _graphs(attribute.g)
            for inner in attribute.graphs:
                yield from _graphs(inner)


def _name(node: NodeProto) -> str:
    return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"


def _size(tensor: TensorProto) -> int:
    """How many weights; int64 tensors are shapes, axes and indices."""
    from onnx import TensorProto

    return 0 if tensor.data_type == TensorProto.INT64 else prod(tensor.dims)


def _packed_sizes(nodes: list[NodeProto]) -> dict[str, int]:
    """Name of a packed tensor → how many weights there are in each of its bytes."""
    sizes = {}
    for node in nodes:
        if node.op_type == _PACKED:
            bits = next((attribute.i for attribute in node.attribute if attribute.name == "bits"), 4)
            sizes[node.input[1]] = 8 // bits
    return sizes
