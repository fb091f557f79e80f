"""What a graph is made of, read once from its file: enough to say which transforms make sense on it. Needs onnx."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from optimizer.transforms.graph import count_operators, load_model, nodes_of
from optimizer.transforms.prepare import is_quantized

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

_ATTENTION = frozenset(
    {"Attention", "MultiHeadAttention", "GroupQueryAttention", "DecoderMaskedMultiHeadAttention", "QAttention"}
)
_NORMALIZATION = frozenset({
    "LayerNormalization", "SkipLayerNormalization", "SimplifiedLayerNormalization", "SkipSimplifiedLayerNormalization",
    "RMSNormalization",
})  # fmt: skip
_THROUGH = ("Transpose", "Identity", "Cast", "Reshape", "DequantizeLinear")


@dataclass(frozen=True, slots=True)
class GraphFacts:
    """`operators`: how often each occurs. `n_parameters`, `n_bytes`: of all constants. `matmul_bytes` (with Gemm), `conv_bytes`,
    `table_bytes` (looked up by Gather): constants by who reads them. `dtypes`: of all constants, sorted."""

    operators: Mapping[str, int]
    n_parameters: int
    n_bytes: int
    matmul_bytes: int
    conv_bytes: int
    table_bytes: int
    has_attention: bool
    has_normalization: bool
    dtypes: tuple[str, ...]

    @property
    def n_layers(self) -> int:
        """Operators that usually have weights."""
        return sum(self.operators.get(name, 0) for name in ("MatMul", "Gemm", "Conv", "ConvTranspose"))

    @property
    def is_quantized(self) -> bool:
        """Whether it has been quantized already."""
        return is_quantized(set(self.operators))


def read_facts(path: Path) -> GraphFacts:
    """Raises StageFailed when the file is not an ONNX model."""
    from onnx import TensorProto

    model = load_model(path)
    operators = count_operators(model)
    constants = dict(_constants(model))
    return GraphFacts(
        operators=dict(sorted(operators.items())),
        n_parameters=sum(_size(one) for one in constants.values()),
        n_bytes=sum(_bytes(one) for one in constants.values()),
        matmul_bytes=_read_by(model, constants, ("MatMul", "Gemm", "Attention")),
        conv_bytes=_read_by(model, constants, ("Conv", "ConvTranspose")),
        table_bytes=_read_by(model, constants, ("Gather",)),
        has_attention=has_attention(model),
        has_normalization=has_normalization(model),
        dtypes=tuple(sorted({TensorProto.DataType.Name(one.data_type) for one in constants.values()})),
    )


def _constants(model: ModelProto) -> Iterator[tuple[str, TensorProto]]:
    for tensor in model.graph.initializer:
        yield tensor.name, tensor
    for node in nodes_of(model):
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    yield node.output[0], attribute.t


def _read_by(model: ModelProto, constants: Mapping[str, TensorProto], operators: tuple[str, ...]) -> int:
    """Bytes of the constants that such operators take as their matrix, kernel or table, straight or through a rearrangement."""
    makers = {name: node for node in model.graph.node for name in node.output}
    found = set()
    for node in model.graph.node:
        if node.op_type in operators:
            place = 0 if node.op_type == "Gather" else 1
            name = _origin(node.input[place], makers)
            if name in constants:
                found.add(name)
    return sum(_bytes(constants[name]) for name in found)


def _origin(name: str, makers: Mapping[str, NodeProto]) -> str:
    while name in makers and makers[name].op_type in _THROUGH:
        name = makers[name].input[0]
    return name


def has_attention(model: ModelProto) -> bool:
    """As one operator, or a Softmax whose result is multiplied with a matrix."""
    if set(count_operators(model)) & _ATTENTION:
        return True
    weights = {node.output[0] for node in nodes_of(model) if node.op_type == "Softmax"}
    return any(node.op_type == "MatMul" and node.input[0] in weights for node in nodes_of(model))


def has_normalization(model: ModelProto) -> bool:
    """Of layers, as one operator or spelled out. That of batches is no matter: it is part of the weights."""
    names = set(count_operators(model))
    return bool(names & _NORMALIZATION) or {"ReduceMean", "Sqrt", "Div"} <= names


def _size(tensor: TensorProto) -> int:
    return math.prod(tensor.dims)


def _bytes(tensor: TensorProto) -> int:
    from onnx import TensorProto, helper

    if tensor.data_type in (TensorProto.INT4, TensorProto.UINT4):
        return -(-_size(tensor) // 2)
    if tensor.data_type == TensorProto.STRING:
        return sum(len(text) for text in tensor.string_data)
    return _size(tensor) * int(helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
