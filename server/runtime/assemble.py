"""Requests ↔ one batch of arrays: joining with padding, splitting without it. No policy here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from server.backends.base import NUMPY_TYPES, Array, BatchError, pad_element
from server.contract.manifest import Manifest
from server.contract.tensors import TensorSpec

Inputs = Mapping[str, Array]
"""Arrays [rows, …] by input name."""


class Part(NamedTuple):
    """One request's share of a batch; `length` is the size of its ragged axis, 0 without one."""

    inputs: Inputs
    rows: int
    length: int


class Assembler:
    """Joins and splits for one model version."""

    def __init__(self, manifest: Manifest) -> None:
        ragged = manifest.ragged
        self._inputs = manifest.inputs
        self._outputs = manifest.outputs
        self._input_axes = [spec.axis(ragged.axis) if ragged else None for spec in manifest.inputs]
        self._output_axes = [spec.axis(ragged.axis) if ragged else None for spec in manifest.outputs]
        pads = ragged.pads if ragged else {}
        self._pads = {spec.name: pad_element(spec.datatype, pads.get(spec.name, 0)) for spec in manifest.inputs}

    def join(self, parts: Sequence[Part]) -> dict[str, Array]:
        """Arrays [Σ rows, …] by input name; shorter parts are padded to the longest with the manifest's values."""
        if len(parts) == 1:
            return dict(parts[0].inputs)
        longest = max(part.length for part in parts)
        return {
            spec.name: np.concatenate([part.inputs[spec.name] for part in parts])
            if axis is None or all(part.length == longest for part in parts)
            else self._join_padded(spec, axis, parts, longest)
            for spec, axis in zip(self._inputs, self._input_axes, strict=True)
        }

    def _join_padded(self, spec: TensorSpec, axis: int, parts: Sequence[Part], longest: int) -> Array:
        shape = list(parts[0].inputs[spec.name].shape)
        shape[0], shape[axis] = sum(part.rows for part in parts), longest
        joined = np.full(shape, self._pads[spec.name], dtype=NUMPY_TYPES[spec.datatype.value])
        row = 0
        for part in parts:
            place = [slice(None)] * len(shape)
            place[0], place[axis] = slice(row, row + part.rows), slice(part.length)
            joined[tuple(place)] = part.inputs[spec.name]
            row += part.rows
        return joined

    def split(self, outputs: Sequence[Array], parts: Sequence[Part]) -> list[list[Array]]:
        """Each part's own outputs, in output order, with the padding cut off.

        Raises BatchError when an output is missing or does not have one row for each row that went in.
        """
        if len(outputs) != len(self._outputs):
            raise BatchError(f"the model returned {len(outputs)} outputs, it declares {len(self._outputs)}")
        rows = sum(part.rows for part in parts)
        for spec, array in zip(self._outputs, outputs, strict=True):
            if array.ndim == 0 or array.shape[0] != rows:
                raise BatchError(f"output {spec.name!r} came back as {list(array.shape)} for a batch of {rows} rows")
            if array.ndim != len(spec.shape):
                raise BatchError(f"output {spec.name!r} came back as {list(array.shape)}, the model declares {spec.wire_shape}")
        if len(parts) == 1:
            return [list(outputs)]
        answers = []
        row = 0
        for part in parts:
            answers.append([
                _cut(array[row : row + part.rows], axis, part.length)
                for array, axis in zip(outputs, self._output_axes, strict=True)
            ])  # fmt: skip
            row += part.rows
        return answers


def _cut(array: Array, axis: int | None, length: int) -> Array:
    if axis is None or array.shape[axis] == length:
        return array
    place = [slice(None)] * array.ndim
    place[axis] = slice(length)
    return array[tuple(place)]
