"""Raw binary requests: the whole body is the data of a model's only input, without any JSON."""

from __future__ import annotations

import math

import numpy as np

from server.api.binary_tensors import from_bytes
from server.api.infer_call import ExpectedInput
from server.api.infer_head import Body
from server.backends.base import Array
from server.errors import BadRequest


def raw_input(model: str, expected: ExpectedInput, body: Body) -> Array:
    """The body as the input's array. One free axis is inferred from the size, the batch when no other is free.

    BYTES: the whole body is one element, without the length before it. Raises BadRequest.
    """
    shape = list(expected.wire_shape)
    free = [place for place, size in enumerate(shape) if size < 0]
    for place in free[:-1]:
        shape[place] = 1  # one row when another axis is free too
    if expected.dtype.kind == "O":
        return _one_element(model, expected, shape, body)
    if free:
        row_bytes = expected.dtype.itemsize * math.prod(size for size in shape if size >= 0)
        if len(body) % row_bytes:
            raise BadRequest(
                f"model {model}: a raw request for input {expected.name!r} ({expected.datatype} {expected.wire_shape}) must be a "
                f"multiple of {row_bytes} bytes, found {len(body)}"
            )
        shape[free[-1]] = len(body) // row_bytes
    return from_bytes(expected.name, memoryview(body), shape, expected.dtype)


def _one_element(model: str, expected: ExpectedInput, shape: list[int], body: Body) -> Array:
    shape = [1 if size < 0 else size for size in shape]
    if math.prod(shape) != 1:
        raise BadRequest(
            f"model {model}: a raw request carries one BYTES element; input {expected.name!r} has shape {expected.wire_shape}"
        )
    array = np.empty(shape, dtype=np.object_)
    array[...] = bytes(body)
    return array
