"""Typed tensor contents → arrays: strict about the field, the count and the range, never wrapped."""

from __future__ import annotations

import math

import numpy as np

from server.api.infer_call import ExpectedInput
from server.backends.base import Array
from server.errors import BadRequest
from server.grpc_api.messages import InferTensorContents

FIELDS = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip
"""Datatype → the field that carries it. FP16 and BF16 have none."""

_CARRIED = {"int_contents": np.dtype("<i4"), "uint_contents": np.dtype("<u4")}
_NARROW = ("INT8", "INT16", "UINT8", "UINT16")


def from_contents(expected: ExpectedInput, contents: InferTensorContents, shape: list[int]) -> Array:
    """The values as an array of `shape`.

    Raises BadRequest when they are in another datatype's field, out of range, or not as many as the shape holds.
    """
    name, datatype = expected.name, expected.datatype
    field = FIELDS.get(datatype)
    if field is None:
        raise BadRequest(f"input {name!r}: {datatype} has no typed contents; send it in raw_input_contents")
    strangers = [descriptor.name for descriptor, _ in contents.ListFields() if descriptor.name != field]
    if strangers:
        raise BadRequest(f"input {name!r}: {datatype} travels in {field}, the request fills {strangers[0]}")
    values = getattr(contents, field)
    if len(values) != math.prod(shape):
        raise BadRequest(f"input {name!r}: shape {shape} holds {math.prod(shape)} elements, {field} has {len(values)}")
    if datatype == "BYTES":
        array = np.empty(len(values), dtype=np.object_)
        array[:] = list(values)
    else:
        array = np.array(list(values), _CARRIED.get(field, expected.dtype))
        if datatype in _NARROW:
            array = _narrowed(expected, array)
    return array.reshape(shape)


def _narrowed(expected: ExpectedInput, array: Array) -> Array:
    bounds = np.iinfo(expected.dtype)
    if array.size and (int(array.min()) < bounds.min or int(array.max()) > bounds.max):
        raise BadRequest(
            f"input {expected.name!r}: a number is outside {expected.datatype}'s range of {bounds.min} to {bounds.max}"
        )
    return array.astype(expected.dtype)
