"""V2 datatypes to and from NumPy: raw bytes and JSON values. No HTTP here.

NumPy has no bfloat16: requests carry it as the marker dtype `BF16`, answers are widened to float32.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from loadtests.errors import MalformedReply

Array = npt.NDArray[Any]

BF16 = np.dtype([("bf16", "<u2")])
"""Marks an array as bfloat16: one field that holds the high half of each float32."""

_DTYPES = {
    "BOOL": np.dtype("?"), "UINT8": np.dtype("u1"), "UINT16": np.dtype("<u2"), "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"), "INT8": np.dtype("i1"), "INT16": np.dtype("<i2"), "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"), "FP16": np.dtype("<f2"), "FP32": np.dtype("<f4"), "FP64": np.dtype("<f8"), "BF16": BF16,
}  # fmt: skip
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_BINARY_ONLY = ("FP16", "BF16")


def datatype_of(array: Array) -> str:
    """The V2 name of an array's dtype; object and `S` arrays are BYTES. Raises ValueError for a dtype V2 lacks."""
    if array.dtype.kind in "OS":
        return "BYTES"
    name = _NAMES.get(array.dtype.newbyteorder("<"))
    if name is None:
        raise ValueError(f"no V2 datatype for dtype {array.dtype}; known are {', '.join(_DTYPES)} and BYTES")
    return name


def dtype_of(datatype: str) -> np.dtype[Any]:
    """The dtype to build inputs of a V2 datatype with (object for BYTES). Raises ValueError for an unknown name."""
    if datatype == "BYTES":
        return np.dtype(object)
    if datatype not in _DTYPES:
        raise ValueError(f"unknown V2 datatype {datatype!r}")
    return _DTYPES[datatype]


def to_bf16(values: Array) -> Array:
    """Round finite float32 values of any shape to bfloat16 (nearest, ties to even), as dtype `BF16`."""
    bits = np.ascontiguousarray(values, dtype="<f4").view("<u4").astype("<u8")
    high = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.asarray(high.astype("<u2")).view(BF16).reshape(np.shape(values))


def to_bytes(array: Array) -> bytes:
    """Row-major little-endian bytes of an array, as the binary extension wants them (BYTES: 4-byte length + bytes)."""
    if datatype_of(array) == "BYTES":
        return b"".join(struct.pack("<I", len(item)) + item for item in map(_as_bytes, array.ravel().tolist()))
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def to_json(array: Array) -> Any:
    """The flat `data` member: a contiguous native array or a list that orjson can encode.

    Raises ValueError for FP16 and BF16 (V2 has no JSON form for them) and for NaN or infinity.
    """
    datatype = datatype_of(array)
    if datatype in _BINARY_ONLY:
        raise ValueError(f"{datatype} has no JSON form in V2: send it in binary")
    if datatype == "BYTES":
        return [_as_bytes(item).decode() for item in array.ravel().tolist()]
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError("JSON has no NaN and no infinity: send them in binary")
    return np.ascontiguousarray(array.astype(array.dtype.newbyteorder("="), copy=False)).ravel()


def from_bytes(datatype: str, shape: Sequence[int], data: bytes | memoryview) -> Array:
    """An array of `shape` from raw tensor bytes; BF16 becomes float32, BYTES an object array of bytes.

    Raises MalformedReply when the bytes do not fit the shape.
    """
    if datatype == "BYTES":
        return _shaped(_split(bytes(data)), shape)
    dtype = _known(datatype)
    n_bytes = count(shape) * dtype.itemsize
    if len(data) != n_bytes:
        raise MalformedReply(f"{datatype} {list(shape)} needs {n_bytes} bytes, found {len(data)}")
    array = np.frombuffer(data, dtype)
    return (_widen(array) if dtype == BF16 else array).reshape(shape)


def from_json(datatype: str, shape: Sequence[int], data: object) -> Array:
    """An array of `shape` from a flat or nested `data` member; integers stay exact. Raises MalformedReply."""
    dtype = np.dtype(object) if datatype == "BYTES" else _known(datatype)
    if dtype == BF16:
        raise MalformedReply("BF16 has no JSON form in V2")
    if not isinstance(data, list):
        raise MalformedReply(f"`data` must be a list, found {type(data).__name__}")
    flat = list(_leaves(data))
    if datatype == "BYTES":
        return _shaped([str(item).encode() for item in flat], shape)
    try:
        array = np.array(flat, dtype)
    except (TypeError, ValueError, OverflowError) as error:
        raise MalformedReply(f"`data` is not {datatype}: {error}") from error
    if array.size != count(shape):
        raise MalformedReply(f"shape {list(shape)} needs {count(shape)} elements, found {array.size}")
    return array.reshape(shape)


def count(shape: Sequence[int]) -> int:
    """Number of elements of a shape. Raises MalformedReply for a dimension that is not a size."""
    n_elements = 1
    for dim in shape:
        if type(dim) is not int or dim < 0:
            raise MalformedReply(f"{list(shape)} is not a shape")
        n_elements *= dim
    return n_elements


def _known(datatype: str) -> np.dtype[Any]:
    try:
        return dtype_of(datatype)
    except ValueError as error:
        raise MalformedReply(str(error)) from error


def _widen(array: Array) -> Array:
    return (array.view("<u2").astype("<u4") << 16).view("<f4")


def _as_bytes(item: object) -> bytes:
    return item if isinstance(item, bytes) else str(item).encode()


def _split(data: bytes) -> list[bytes]:
    items, at = [], 0
    while at < len(data):
        if at + 4 > len(data):
            raise MalformedReply("a BYTES tensor ends inside a length")
        (length,) = struct.unpack_from("<I", data, at)
        at += 4 + length
        if at > len(data):
            raise MalformedReply("a BYTES element runs over the end of its tensor")
        items.append(data[at - length : at])
    return items


def _shaped(items: list[bytes], shape: Sequence[int]) -> Array:
    if len(items) != count(shape):
        raise MalformedReply(f"BYTES {list(shape)} needs {count(shape)} elements, found {len(items)}")
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array.reshape(shape)


def _leaves(data: list[Any]) -> Any:
    for item in data:
        if isinstance(item, list):
            yield from _leaves(item)
        else:
            yield item
