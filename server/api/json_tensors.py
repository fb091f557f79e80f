"""Tensors in JSON: strict about types, exact for 64-bit integers, never silently rounded or wrapped."""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np

from server.backends.base import Array
from server.errors import BadRequest

_ACCEPTED = {"f": "iuf", "i": "iu", "u": "iu", "b": "b"}
_FLOATS = {float}
_NUMBERS = {int, float, bool}
_WORDS = {"f": "numbers", "i": "integers", "u": "integers that are not negative", "b": "booleans"}


def from_json(name: str, data: object, shape: list[int], dtype: np.dtype[Any], datatype: str) -> Array:
    """`data` (flat or nested, row-major) → array of `shape`.

    Raises BadRequest when an element has the wrong type, is out of the datatype's range, or the count is not the shape's.
    """
    if not isinstance(data, list):
        raise BadRequest(f"input {name!r}: 'data' must be a list, flat or nested")
    if datatype in ("FP16", "BF16"):
        raise BadRequest(f"input {name!r}: {datatype} cannot travel in JSON; send it with the binary tensor extension")
    array = _bytes_array(name, data) if dtype.kind == "O" else _number_array(name, data, dtype, datatype)
    if array.size != math.prod(shape):
        raise BadRequest(f"input {name!r}: shape {shape} holds {math.prod(shape)} elements, 'data' has {array.size}")
    return array.reshape(shape)


def _number_array(name: str, data: list[Any], dtype: np.dtype[Any], datatype: str) -> Array:
    if dtype.kind == "f" and set(map(type, data)) == _FLOATS:
        return _flat_floats(name, data, dtype, datatype)
    array = _checked_array(name, data, dtype, datatype)
    if dtype.kind in "iu":
        return _narrowed(name, array, dtype, datatype)
    try:
        with np.errstate(over="raise"):
            return array.astype(dtype, copy=False)
    except FloatingPointError:
        raise _too_large(name, datatype) from None


def _flat_floats(name: str, data: list[float], dtype: np.dtype[Any], datatype: str) -> Array:
    """The usual case, a flat list of floats and nothing else, at a third of the cost."""
    try:
        return np.frombuffer(struct.pack(f"={len(data)}{dtype.char}", *data), dtype)
    except OverflowError:
        raise _too_large(name, datatype) from None


def _too_large(name: str, datatype: str) -> BadRequest:
    return BadRequest(f"input {name!r}: a number is too large for {datatype}")


def _checked_array(name: str, data: list[Any], dtype: np.dtype[Any], datatype: str) -> Array:
    if not set(map(type, _flatten(data))) <= _NUMBERS:  # numpy would give each text the room of the longest
        raise BadRequest(f"input {name!r}: datatype {datatype} wants {_WORDS[dtype.kind]} only, within 64 bits")
    try:
        array: Array = np.array(data)
    except (ValueError, OverflowError):  # nested lists of unequal lengths
        raise BadRequest(f"input {name!r}: 'data' is nested unevenly; give one flat row-major list") from None
    if array.size == 0:
        return np.empty(0, dtype)
    if array.dtype.kind == "f" and dtype == np.uint64 and all(type(item) is int for item in _flatten(data)):
        array = _unsigned(name, data)  # numpy joins small and very large integers as floats, which rounds them
    if array.dtype.kind not in _ACCEPTED[dtype.kind] or (dtype.kind != "b" and bool in set(map(type, _flatten(data)))):
        raise BadRequest(f"input {name!r}: datatype {datatype} wants {_WORDS[dtype.kind]} only, within 64 bits")
    return array


def _unsigned(name: str, data: list[Any]) -> Array:
    try:
        return np.array(data, np.uint64)
    except OverflowError:
        raise BadRequest(f"input {name!r}: a number is outside UINT64's range of 0 to {2**64 - 1}") from None


def _narrowed(name: str, array: Array, dtype: np.dtype[Any], datatype: str) -> Array:
    bounds = np.iinfo(dtype)
    if array.dtype != dtype and (int(array.min()) < bounds.min or int(array.max()) > bounds.max):
        raise BadRequest(f"input {name!r}: a number is outside {datatype}'s range of {bounds.min} to {bounds.max}")
    return array.astype(dtype, copy=False)


def _bytes_array(name: str, data: list[Any]) -> Array:
    flat = list(_flatten(data))
    if not all(isinstance(item, str) for item in flat):
        raise BadRequest(f"input {name!r}: datatype BYTES wants strings only")
    array = np.empty(len(flat), dtype=np.object_)
    array[:] = [item.encode() for item in flat]
    return array


def _flatten(data: list[Any]) -> list[Any]:
    """Row-major leaves of nested lists, without recursion: the parser bounds the depth, not our stack."""
    if not any(isinstance(item, list) for item in data):
        return data
    leaves: list[Any] = []
    stack = [iter(data)]
    while stack:
        for item in stack[-1]:
            if isinstance(item, list):
                stack.append(iter(item))
                break
            leaves.append(item)
        else:
            stack.pop()
    return leaves


def to_json(name: str, array: Array, datatype: str) -> Array | list[Any]:
    """The flat `data` of an output: an array that the encoder writes itself, or text for BYTES.

    Raises BadRequest for what JSON cannot carry.
    """
    if datatype in ("FP16", "BF16"):
        raise BadRequest(f"output {name!r}: {datatype} cannot travel in JSON; ask for it with binary_data")
    if datatype != "BYTES":
        return np.ascontiguousarray(array).reshape(-1)
    try:
        return [item.decode() if isinstance(item, bytes) else str(item) for item in array.reshape(-1).tolist()]
    except UnicodeDecodeError:
        raise BadRequest(f"output {name!r}: an element is not UTF-8; ask for it with binary_data") from None
