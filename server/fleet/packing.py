"""A model's tensors ↔ one run of bytes: for each, its sizes and its row-major data, on boundaries of 8 bytes."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from struct import Struct, error
from typing import NamedTuple

import numpy as np

from server.api.binary_tensors import from_bytes, to_bytes
from server.backends.base import NUMPY_TYPES, Array
from server.contract.tensors import TensorSpec
from server.errors import BadRequest
from server.fleet.slots import BrokenLink


class _Tensor(NamedTuple):
    """What the other side knows as well, and how the rest is written: the sizes, and for BYTES how many bytes follow."""

    spec: TensorSpec
    dtype: np.dtype[np.generic]
    head: Struct
    rank: int


class Packed(NamedTuple):
    """Tensors ready to be written."""

    parts: list[bytes | Array]
    n_bytes: int

    def joined(self) -> bytes:
        """All in one piece."""
        return b"".join([part if isinstance(part, bytes) else part.tobytes() for part in self.parts])

    def write(self, memory: memoryview) -> None:
        """Into `memory`, which has room for n_bytes; no copy comes in between."""
        at = 0
        for part in self.parts:
            if isinstance(part, bytes):
                memory[at : at + len(part)] = part
                at += len(part)
            elif part.nbytes:
                np.frombuffer(memory, part.dtype, part.size, at).reshape(part.shape)[...] = part
                at += part.nbytes


class Packing:
    """Packs and unpacks the tensors of one side (inputs or outputs) of one model."""

    def __init__(self, specs: Sequence[TensorSpec]) -> None:
        self._tensors = [_tensor(spec) for spec in specs]

    def pack(self, arrays: Sequence[Array]) -> Packed:
        """One array per tensor, in the model's order. Arrays of another type than the model's are converted."""
        parts: list[bytes | Array] = []
        n_bytes = 0
        for (spec, dtype, head, _), array in zip(self._tensors, arrays, strict=True):
            data: bytes | Array
            if dtype.kind == "O":
                data = to_bytes(array, spec.datatype.value)
                size = len(data)
                parts += (head.pack(*array.shape, size), data)
            else:
                data = array if array.dtype == dtype else array.astype(dtype)
                size = data.nbytes
                parts += (head.pack(*array.shape), data)
            n_bytes += head.size + size
            if gap := -size % 8:
                parts.append(bytes(gap))
                n_bytes += gap
        return Packed(parts, n_bytes)

    def pack_small(self, arrays: Sequence[Array], most: int) -> bytes | None:
        """Like `pack`, in one piece and at half the cost; None for tensors of more than `most` bytes in all."""
        parts: list[bytes] = []
        left = most
        for (_, dtype, head, _), array in zip(self._tensors, arrays, strict=True):
            if array.dtype != dtype or dtype.kind == "O":
                return None if (packed := self.pack(arrays)).n_bytes > most else packed.joined()
            left -= array.nbytes
            if left < 0:
                return None
            parts.append(head.pack(*array.shape))
            parts.append(array.tobytes())
            if array.nbytes % 8:
                parts.append(bytes(-array.nbytes % 8))
        return b"".join(parts)

    def unpack(self, buffer: memoryview, at: int, n_bytes: int) -> list[Array]:
        """Views on `n_bytes` of `buffer` from `at` on. Raises BrokenLink when they are not what `pack` wrote."""
        end = at + n_bytes
        arrays: list[Array] = []
        try:
            for spec, dtype, head, rank in self._tensors:
                shape = head.unpack_from(buffer, at)
                at += head.size
                if dtype.kind == "O":
                    size = shape[rank]
                    arrays.append(from_bytes(spec.name, buffer[at : at + size], list(shape[:rank]), dtype))
                elif count := prod(shape):
                    size = count * dtype.itemsize
                    arrays.append(np.frombuffer(buffer, dtype, count, at).reshape(shape))
                else:
                    size = 0
                    arrays.append(np.empty(shape, dtype))
                at += size + -size % 8
        except (error, ValueError, OverflowError, BadRequest) as wrong:
            raise BrokenLink(f"tensors that cannot be unpacked: {wrong}") from wrong
        if at != end:
            raise BrokenLink(f"tensors of {at - end + n_bytes} bytes in a run of {n_bytes}")
        return arrays


def _tensor(spec: TensorSpec) -> _Tensor:
    dtype = NUMPY_TYPES[spec.datatype.value]
    rank = len(spec.shape)
    return _Tensor(spec, dtype, Struct(f"<{rank + (dtype.kind == 'O')}Q"), rank)
