"""What ONNX Runtime's sessions say of their tensors and errors, on whatever device: for the backends that use this library."""

from __future__ import annotations

from typing import Any

from server.backends.base import LoadError, tensor_spec
from server.contract.tensors import DataType, TensorSpec

_DATATYPES = {
    "tensor(bool)": DataType.BOOL,
    "tensor(uint8)": DataType.UINT8,
    "tensor(uint16)": DataType.UINT16,
    "tensor(uint32)": DataType.UINT32,
    "tensor(uint64)": DataType.UINT64,
    "tensor(int8)": DataType.INT8,
    "tensor(int16)": DataType.INT16,
    "tensor(int32)": DataType.INT32,
    "tensor(int64)": DataType.INT64,
    "tensor(float16)": DataType.FP16,
    "tensor(float)": DataType.FP32,
    "tensor(double)": DataType.FP64,
    "tensor(string)": DataType.BYTES,
}


def declared_by(arg: Any) -> TensorSpec:
    """A tensor as a session declares it. Raises LoadError for sequence, map and other non-tensor values, and for what tensor_spec refuses."""
    datatype = _DATATYPES.get(arg.type)
    if datatype is None:
        raise LoadError(f"tensor {arg.name!r} has type {arg.type}, which cannot be served")
    return tensor_spec(arg.name, datatype, arg.shape)


def reason_of(error: Exception) -> str:
    """The library's message on one line, without its status-code prefix."""
    text = " ".join(str(error).split())
    return text.split(" : ", 3)[-1] if text.startswith("[ONNXRuntimeError]") else text
