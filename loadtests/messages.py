"""The gRPC protocol's messages as far as a load test uses them, declared here: it knows the wire, not the server.

They are made by the protobuf library in a pool of their own, so another definition of the same names does no harm.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

_PACKAGE = "inference"
_SCALARS = {
    "bool": FieldDescriptorProto.TYPE_BOOL, "int32": FieldDescriptorProto.TYPE_INT32, "int64": FieldDescriptorProto.TYPE_INT64,
    "uint32": FieldDescriptorProto.TYPE_UINT32, "uint64": FieldDescriptorProto.TYPE_UINT64,
    "float": FieldDescriptorProto.TYPE_FLOAT, "double": FieldDescriptorProto.TYPE_DOUBLE,
    "string": FieldDescriptorProto.TYPE_STRING, "bytes": FieldDescriptorProto.TYPE_BYTES,
}  # fmt: skip
_MESSAGES = {
    "Contents": {
        1: "bool_contents bool*", 2: "int_contents int32*", 3: "int64_contents int64*", 4: "uint_contents uint32*",
        5: "uint64_contents uint64*", 6: "fp32_contents float*", 7: "fp64_contents double*", 8: "bytes_contents bytes*",
    },
    "Tensor": {1: "name string", 2: "datatype string", 3: "shape int64*", 5: "contents Contents"},
    "ModelMetadataRequest": {1: "name string", 2: "version string"},
    "ModelMetadataResponse": {1: "name string", 2: "versions string*", 4: "inputs Tensor*", 5: "outputs Tensor*"},
    "ModelInferRequest": {1: "model_name string", 2: "model_version string", 5: "inputs Tensor*", 7: "raw_input_contents bytes*"},
    "ModelInferResponse": {
        1: "model_name string", 2: "model_version string", 3: "id string", 5: "outputs Tensor*", 6: "raw_output_contents bytes*",
    },
}  # fmt: skip
"""Message → number → name and type of a field; * is repeated. The tensors of all messages have the same first fields."""


def _field(number: int, text: str) -> FieldDescriptorProto:
    name, kind = text.split()
    many = kind.endswith("*")
    label = FieldDescriptorProto.LABEL_REPEATED if many else FieldDescriptorProto.LABEL_OPTIONAL
    kind = kind.removesuffix("*")
    if kind in _SCALARS:
        return FieldDescriptorProto(name=name, number=number, label=label, type=_SCALARS[kind])
    return FieldDescriptorProto(
        name=name, number=number, label=label, type=FieldDescriptorProto.TYPE_MESSAGE, type_name=f".{_PACKAGE}.{kind}"
    )


def _pool() -> DescriptorPool:
    pool = DescriptorPool()
    declared = [
        DescriptorProto(name=name, field=[_field(number, text) for number, text in fields.items()])
        for name, fields in _MESSAGES.items()
    ]
    pool.Add(FileDescriptorProto(name="loadtest.proto", package=_PACKAGE, syntax="proto3", message_type=declared))
    return pool


def _class(name: str) -> Any:
    return GetMessageClass(_POOL.FindMessageTypeByName(f"{_PACKAGE}.{name}"))


_POOL = _pool()
ModelMetadataRequest = _class("ModelMetadataRequest")
ModelMetadataResponse = _class("ModelMetadataResponse")
ModelInferRequest = _class("ModelInferRequest")
ModelInferResponse = _class("ModelInferResponse")
