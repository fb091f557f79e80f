"""Inputs to check and measure with: the user's own where there are any, made up otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from server.backends.base import NUMPY_TYPES, Array
from server.contract.tensors import TensorSpec
from server.intake.errors import IntakeError
from server.intake.inspect import Signature

_SHARE_OF_ONES = 0.75


class Samples:
    """Batches of any size cut from single requests, each a mapping of input name → array [1, …].

    Rows repeat the singles in order; the ragged axis is filled by repeating a single's own values, so that a batch
    of any length holds real ones. Raises IntakeError when a single does not fit the signature.
    """

    def __init__(self, signature: Signature, singles: Sequence[Mapping[str, Array]]) -> None:
        if not singles:
            raise IntakeError("no sample inputs: give at least one")
        for number, single in enumerate(singles):
            _check_single(signature, single, number)
        self._signature = signature
        self._singles = singles

    @property
    def singles(self) -> Sequence[Mapping[str, Array]]:
        """The single requests themselves, each name → array [1, …]."""
        return self._singles

    def batch(self, rows: int, length: int, first: int = 0) -> dict[str, Array]:
        """Arrays [rows, …] with the ragged axis of size `length` (ignored without one), starting at single `first`."""
        picked = [self._singles[(first + n) % len(self._singles)] for n in range(rows)]
        return {
            spec.name: np.concatenate([self._stretch(spec, single[spec.name], length) for single in picked])
            for spec in self._signature.inputs
        }

    def _stretch(self, spec: TensorSpec, array: Array, length: int) -> Array:
        ragged = self._signature.ragged_axis
        axis = spec.axis(ragged) if ragged else None
        return array if axis is None else np.take(array, np.arange(length) % array.shape[axis], axis=axis)


def made_up_samples(signature: Signature, length: int, n_singles: int = 8, seed: int = 0) -> Samples:
    """Samples when the user gave none: standard normal floats, and zeros and ones, of these more, for every other type.

    Both are inside any vocabulary, are possible in any mask, and are valid indices of nearly any table. They are mixed
    because equal rows would hide that rows influence each other; each begins with a one, as no mask should be empty.
    """
    rng = np.random.default_rng(seed)
    singles = [{spec.name: _made_up(spec, length, rng) for spec in signature.inputs} for _ in range(n_singles)]
    return Samples(signature, singles)


def _made_up(spec: TensorSpec, length: int, rng: np.random.Generator) -> Array:
    shape = (1, *(dim if isinstance(dim, int) else length for dim in spec.shape[1:]))
    dtype = NUMPY_TYPES[spec.datatype.value]
    if dtype.kind == "f":
        return rng.standard_normal(shape).astype(dtype)
    flat = rng.random(int(np.prod(shape))) < _SHARE_OF_ONES
    flat[:1] = True
    if dtype == np.object_:
        return np.where(flat, b"1", b"0").astype(dtype).reshape(shape)
    return flat.astype(dtype).reshape(shape)


def _check_single(signature: Signature, single: Mapping[str, Array], number: int) -> None:
    wanted = {spec.name for spec in signature.inputs}
    if set(single) != wanted:
        raise IntakeError(f"sample {number} has inputs {sorted(single)}, the model wants {sorted(wanted)}")
    sizes: set[int] = set()
    for spec in signature.inputs:
        array = single[spec.name]
        dtype = NUMPY_TYPES[spec.datatype.value]
        fits = array.ndim == len(spec.shape) and array.shape[0] == 1 and all(
            isinstance(dim, str) or dim == size for dim, size in zip(spec.shape[1:], array.shape[1:], strict=True)
        )  # fmt: skip
        sizes |= {size for dim, size in zip(spec.shape, array.shape, strict=False) if dim == signature.ragged_axis}
        if not fits or array.dtype != dtype:
            raise IntakeError(
                f"sample {number}: input {spec.name!r} is {array.dtype} {list(array.shape)}, "
                f"the model wants {dtype} {[1, *spec.wire_shape[1:]]}"
            )
    if 0 in sizes or len(sizes) > 1:
        raise IntakeError(
            f"sample {number}: axis {signature.ragged_axis!r} must have one size above 0 in all inputs, found {sorted(sizes)}"
        )
