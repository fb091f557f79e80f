"""Tensors as raw little-endian bytes: the binary tensor extension."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from server.backends.base import Array
from server.errors import BadRequest

_LENGTH = struct.Struct("<I")


def from_bytes(name: str, raw: memoryview, shape: list[int], dtype: np.dtype[Any]) -> Array:
    """`raw` → array of `shape`, without a copy for fixed-width types.

    Raises BadRequest when the size is not the shape's.
    """
    if dtype.kind == "O":
        return _elements(name, raw, shape)
    expected = dtype.itemsize
    for size in shape:
        expected *= size
    if raw.nbytes != expected:
        raise BadRequest(f"input {name!r}: shape {shape} of {dtype} takes {expected} bytes, {raw.nbytes} were sent")
    array: Array = np.frombuffer(raw, dtype)
    if dtype.kind == "b" and array.size and array.view(np.uint8).max() > 1:
        array = array.view(np.uint8) != 0  # any byte but 0 is true; a library is only ever given 0 and 1
    return array.reshape(shape)


def _elements(name: str, raw: memoryview, shape: list[int]) -> Array:
    """BYTES: each element is a 4-byte little-endian length and so many bytes."""
    items: list[bytes] = []
    place = 0
    while place < raw.nbytes:
        if place + _LENGTH.size > raw.nbytes:
            raise BadRequest(f"input {name!r}: the last BYTES element is cut off in its length")
        (length,) = _LENGTH.unpack_from(raw, place)
        place += _LENGTH.size
        if place + length > raw.nbytes:
            raise BadRequest(f"input {name!r}: BYTES element {len(items)} claims {length} bytes, {raw.nbytes - place} are left")
        items.append(bytes(raw[place : place + length]))
        place += length
    array = np.empty(len(items), dtype=np.object_)
    array[:] = items
    try:
        return array.reshape(shape)
    except ValueError:
        raise BadRequest(f"input {name!r}: shape {shape} does not hold the {len(items)} BYTES elements sent") from None


def to_flat(array: Array, datatype: str) -> Array | bytes:
    """The blob of an output as it can be written anywhere, without a copy for fixed-width types: uint8 [bytes]."""
    if datatype == "BYTES":
        return to_bytes(array, datatype)
    flat: Array = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return flat


def to_bytes(array: Array, datatype: str) -> bytes:
    """The blob of an output, row-major."""
    if datatype != "BYTES":
        return np.ascontiguousarray(array).tobytes()
    parts = []
    for item in array.reshape(-1).tolist():
        data = item if isinstance(item, bytes) else str(item).encode()
        parts += [_LENGTH.pack(len(data)), data]
    return b"".join(parts)
