"""What an .onnx file declares of its inputs and outputs, read from the file itself: for libraries that forget the names of axes.

Of the format only what is needed is described here (github.com/onnx/onnx, onnx.proto): the rest is skipped by protobuf.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from server.backends.base import LoadError, tensor_spec
from server.contract.tensors import DataType, TensorSpec

_PACKAGE = "ferry.onnx_declaration"
_INT, _TEXT = "int64", "string"
_MESSAGES: dict[str, dict[str, tuple[int, str, bool]]] = {
    "Model": {"graph": (7, "Graph", False)},
    "Graph": {"initializer": (5, "Tensor", True), "input": (11, "Value", True), "output": (12, "Value", True)},
    "Tensor": {"name": (8, _TEXT, False)},
    "Value": {"name": (1, _TEXT, False), "type": (2, "Type", False)},
    "Type": {"tensor_type": (1, "TensorType", False)},
    "TensorType": {"elem_type": (1, _INT, False), "shape": (2, "Shape", False)},
    "Shape": {"dim": (1, "Dim", True)},
    "Dim": {"dim_value": (1, _INT, False), "dim_param": (2, _TEXT, False)},
}
"""Field → (number, type, whether repeated)."""

_DATATYPES = {
    1: DataType.FP32, 2: DataType.UINT8, 3: DataType.INT8, 4: DataType.UINT16, 5: DataType.INT16, 6: DataType.INT32,
    7: DataType.INT64, 8: DataType.BYTES, 9: DataType.BOOL, 10: DataType.FP16, 11: DataType.FP64, 12: DataType.UINT32,
    13: DataType.UINT64,
}  # fmt: skip


def declared(file: Path) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs and outputs in the file's order. Raises LoadError when it is no such file or has values that cannot be served."""
    model = _model_class()()
    try:
        model.ParseFromString(file.read_bytes())
    except (OSError, DecodeError) as error:
        raise LoadError(f"{file.name} cannot be read as ONNX: {error}") from None
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = tuple(_spec(value) for value in model.graph.input if value.name not in constants)
    return inputs, tuple(_spec(value) for value in model.graph.output)


def _spec(value: Any) -> TensorSpec:
    kind = value.type.tensor_type
    datatype = _DATATYPES.get(kind.elem_type)
    if datatype is None:
        raise LoadError(f"tensor {value.name!r} has a type that cannot be served")
    shape = [dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None for dim in kind.shape.dim]
    return tensor_spec(value.name, datatype, shape)


@cache
def _model_class() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name=f"{_PACKAGE}.proto", package=_PACKAGE, syntax="proto2")
    plain = {_INT: descriptor_pb2.FieldDescriptorProto.TYPE_INT64, _TEXT: descriptor_pb2.FieldDescriptorProto.TYPE_STRING}
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind, repeated) in fields.items():
            made = message.field.add(name=field, number=number, label=3 if repeated else 1)
            if kind in plain:
                made.type = plain[kind]
            else:
                made.type, made.type_name = descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Model"))
