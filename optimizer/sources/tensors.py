"""From the user's sample requests to tensor specs. numpy only: what the module does with them is elsewhere."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from optimizer.errors import SourceError
from optimizer.sources.settings import Settings
from server.backends.base import NUMPY_TYPES, Array
from server.contract.tensors import DataType, Dim, TensorSpec
from server.intake.inspect import BATCH, Signature

Single = dict[str, Array]
"""One request: input name → array [1, …]."""

_EXAMPLE = 'samples() must return a non-empty list of requests, like [{"image": array of shape [1, 1, 8, 8]}]'
_DATATYPES = {dtype: DataType(name) for name, dtype in NUMPY_TYPES.items() if name not in ("BF16", "BYTES")}


def check_samples(value: object, settings: Settings, where: str) -> list[Single]:
    """The samples themselves. Raises SourceError naming the first sample and input that is wrong, and the remedy."""
    if not isinstance(value, list) or not value:
        raise SourceError(f"{where}: {_EXAMPLE}; found {_kind(value)}")
    for number, single in enumerate(value):
        if not isinstance(single, dict) or not single:
            raise SourceError(f"{where}: sample {number} is {_kind(single)}; {_EXAMPLE}")
        if set(single) != set(value[0]):
            raise SourceError(f"{where}: sample {number} has inputs {sorted(single)}, sample 0 has {sorted(value[0])}")
        for name, array in single.items():
            free = settings.axes.get(name, {})
            _check_array(array, value[0][name], free, f"{where}: sample {number}, input {name!r}")
    unknown = sorted(set(settings.axes) - set(value[0]))
    if unknown:
        raise SourceError(f"{where}: AXES names {unknown[0]!r}, the samples have {sorted(value[0])}")
    _check_lengths(value, settings, where)
    return value


def signature_of(single: Single, settings: Settings) -> Signature:
    """Inputs in the order of the sample, with the batch axis and the free axis named."""
    specs = []
    for name, array in single.items():
        free = settings.axes.get(name, {})
        shape: tuple[Dim, ...] = (BATCH, *(free.get(n, size) for n, size in enumerate(array.shape[1:], 1)))
        specs.append(TensorSpec(name, _DATATYPES[array.dtype], shape))
    return Signature(tuple(specs), (), settings.ragged_axis, batches=True)


def _check_array(array: object, first: object, free: Mapping[int, str], where: str) -> None:
    if not isinstance(array, np.ndarray) or array.ndim == 0 or array.shape[0] != 1:
        raise SourceError(f"{where}: is {_kind(array)}; give a numpy array whose first axis has size 1: one request")
    if array.dtype not in _DATATYPES:
        raise SourceError(f"{where}: has dtype {array.dtype}, which cannot be served; use a number type like float32 or int64")
    if not isinstance(first, np.ndarray) or array.dtype != first.dtype or array.ndim != first.ndim:
        raise SourceError(f"{where}: is {_kind(array)}, sample 0 has {_kind(first)}; all samples need the same type and axes")
    if max(free, default=0) >= array.ndim:
        raise SourceError(f"{where}: has {array.ndim} axes, AXES names axis {max(free)}")
    for axis in range(1, array.ndim):
        if axis not in free and array.shape[axis] != first.shape[axis]:
            raise SourceError(
                f"{where}: has size {array.shape[axis]} in axis {axis}, sample 0 has {first.shape[axis]}; "
                f"name the axis in AXES if its size is free"
            )


def _check_lengths(singles: list[Single], settings: Settings, where: str) -> None:
    """Each sample has one length, and it is inside LENGTHS."""
    for number, single in enumerate(singles):
        name = f"{where}: sample {number}"
        sizes = {single[given].shape[axis] for given, axes in settings.axes.items() for axis in axes}
        if len(sizes) > 1:
            raise SourceError(f"{name} has sizes {sorted(sizes)} in axis {settings.ragged_axis!r}: they must agree")
        if sizes and settings.lengths and not settings.lengths[0] <= min(sizes) <= settings.lengths[1]:
            raise SourceError(f"{name} has length {min(sizes)}, outside LENGTHS {settings.lengths}; widen LENGTHS")


def _kind(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"an array {value.dtype} {list(value.shape)}"
    return "nothing" if value is None else f"of type {type(value).__name__}"
