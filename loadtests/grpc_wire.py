"""V2 over gRPC as bytes: whole calls made beforehand, answers as arrays. Frames are in `http2`, sockets elsewhere."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from loadtests.errors import MalformedReply, ServerError
from loadtests.http2 import call_request
from loadtests.messages import ModelInferRequest, ModelInferResponse, ModelMetadataRequest, ModelMetadataResponse
from loadtests.tensors import Array, datatype_of, dtype_of, from_bytes, to_bytes
from loadtests.wire import Response

_SERVICE = "/inference.GRPCInferenceService/"
_TYPED = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents", "INT64": "int64_contents",
    "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents", "UINT64": "uint64_contents",
    "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip
"""Datatype → the field that carries it in answers that are not raw."""
_MOST_TIMEOUT_US = 99_999_999
"""gRPC's timeouts have at most eight digits."""


def infer_request(
    host: str, model: str, inputs: Mapping[str, Array], *, version: str | None = None, timeout_us: int | None = None,
    key: str | None = None,
) -> bytes:  # fmt: skip
    """A ModelInfer call with raw tensors, as the official clients send them. `timeout_us` becomes the call's deadline, `key` a bearer token.

    Raises ValueError for a dtype V2 lacks.
    """
    message = ModelInferRequest(model_name=model, model_version=version or "")
    for name, array in inputs.items():
        message.inputs.add(name=name, datatype=datatype_of(array), shape=array.shape)
        message.raw_input_contents.append(to_bytes(array))
    return _call(host, "ModelInfer", message, timeout_us, key)


def metadata_request(host: str, model: str, version: str | None, key: str | None = None) -> bytes:
    """A ModelMetadata call."""
    return _call(host, "ModelMetadata", ModelMetadataRequest(name=model, version=version or ""), None, key)


def _call(host: str, method: str, message: Any, timeout_us: int | None = None, key: str | None = None) -> bytes:
    headers = {":method": "POST", ":scheme": "http", ":path": _SERVICE + method, ":authority": host, "te": "trailers"}
    if timeout_us is not None:
        headers["grpc-timeout"] = _timeout(timeout_us)
    if key is not None:
        headers["authorization"] = f"Bearer {key}"
    headers |= {"content-type": "application/grpc", "user-agent": "ferry-loadtest"}
    return call_request(headers, message.SerializeToString())


def _timeout(timeout_us: int) -> str:
    return f"{timeout_us}u" if timeout_us <= _MOST_TIMEOUT_US else f"{min(timeout_us // 1000, _MOST_TIMEOUT_US)}m"


def read_metadata(response: Response) -> list[tuple[str, str, list[int]]]:
    """Name, datatype and shape of each input. Raises ServerError, MalformedReply."""
    found = _message(response, ModelMetadataResponse)
    return [(one.name, one.datatype, list(one.shape)) for one in found.inputs]


def decode(response: Response) -> dict[str, Array]:
    """The outputs of a ModelInfer answer by name, raw or typed. Raises ServerError, MalformedReply."""
    found = _message(response, ModelInferResponse)
    raw = found.raw_output_contents
    if raw and len(raw) != len(found.outputs):
        raise MalformedReply(f"{len(raw)} raw_output_contents for {len(found.outputs)} outputs")
    return {one.name: _output(one, raw[at] if raw else None) for at, one in enumerate(found.outputs)}


def _message(response: Response, kind: Any) -> Any:
    if response.status != 200:
        raise ServerError(response.status, response.body.decode(errors="replace"))
    try:
        return kind.FromString(response.body)
    except DecodeError as error:
        raise MalformedReply(f"not a {kind.DESCRIPTOR.name}: {error}") from error


def _output(one: Any, blob: bytes | None) -> Array:
    shape = list(one.shape)
    if blob is not None:
        return from_bytes(one.datatype, shape, blob)
    if one.datatype not in _TYPED:
        raise MalformedReply(f"output {one.name}: {one.datatype} has no typed contents")
    values = list(getattr(one.contents, _TYPED[one.datatype]))
    if min(shape, default=0) < 0 or len(values) != math.prod(shape):
        raise MalformedReply(f"output {one.name}: {len(values)} values for shape {shape}")
    array: Array = np.empty(len(values), dtype_of(one.datatype))
    array[:] = values
    return array.reshape(shape)
