"""The range that each tensor of a graph gets for quantization, from what it holds when real requests are answered. Needs onnx."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from optimizer.errors import StageFailed
from optimizer.transforms.graph import copy_of, float_values, open_session, to_bytes
from server.backends.base import Array, BatchError, Session

if TYPE_CHECKING:
    from onnx import ModelProto

METHODS = ("min-max", "entropy", "percentile")

Ranges = dict[str, tuple[float, float]]
"""Least and greatest value by tensor."""

_BINS = 2048  # of magnitudes; values have twice as many
_STRIDE = 8
_LEVELS = 128
_PERCENT_OUTSIDE = 0.01
_NEVER = 1e-9


def find_ranges(
    model: ModelProto, method: str, operators: Collection[str], requests: Sequence[Mapping[str, Array]]
) -> Ranges:  # fmt: skip
    """Of all float32 tensors that nodes of these types read or write, constants left out. Each request is answered alone, at its own
    length: padding would count as data.

    "min-max": what was seen. "entropy": cut at the magnitude where 128 levels diverge least (Kullback and Leibler) from what was seen
    (Migacz, 8-bit inference with TensorRT, 2017). "percentile": all but 0.01 % of the values, half of these at either end.
    Values that are not finite are left aside.
    """
    names = _watched(model, operators)
    ranges: Ranges = {}
    for name, array in _finite(watch(model, names, requests)):
        low, high = ranges.get(name, (np.inf, -np.inf))
        ranges[name] = min(low, float(array.min(initial=np.inf))), max(high, float(array.max(initial=-np.inf)))
    ranges = {name: found for name, found in ranges.items() if found[0] <= found[1]}
    if method == "min-max":
        return ranges
    counts = {name: np.zeros(2 * _BINS, dtype=np.int64) for name in ranges}
    for name, array in _finite(watch(model, list(ranges), requests)):
        counts[name] += np.histogram(array, 2 * _BINS, _symmetric(ranges[name]))[0]
    cut = _by_entropy if method == "entropy" else _by_percentile
    return {name: cut(counts[name], ranges[name]) for name in ranges}


def _watched(model: ModelProto, operators: Collection[str]) -> list[str]:
    constants = {one.name for one in model.graph.initializer}
    wanted = [name for node in model.graph.node if node.op_type in operators for name in (*node.input, *node.output)]
    floats = float_values(model)
    return [name for name in dict.fromkeys(wanted) if name in floats and name not in constants]


def watch(
    model: ModelProto, names: Sequence[str], requests: Sequence[Mapping[str, Array]]
) -> Iterator[tuple[str, Array]]:  # fmt: skip
    """What float32 tensors of the main graph hold, request by request, each answered alone."""
    from onnx import TensorProto, helper

    watching = copy_of(model)
    known = {one.name for one in (*model.graph.input, *model.graph.output)}
    watching.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names if name not in known
    )
    data = to_bytes(watching)
    with tempfile.TemporaryDirectory() as folder, closing(open_session(data, Path(folder), "the model")) as session:
        outputs = [spec.name for spec in session.outputs]
        for request in requests:
            found = {**request, **dict(zip(outputs, _run(session, request), strict=True))}
            yield from ((name, found[name]) for name in names)


def _run(session: Session, request: Mapping[str, Array]) -> Sequence[Array]:
    try:
        return session.run(request)
    except BatchError as error:
        raise StageFailed(f"the model fails on a calibration request: {error}") from None


def _finite(found: Iterable[tuple[str, Array]]) -> Iterator[tuple[str, Array]]:
    for name, array in found:
        flat = array.ravel()
        yield name, flat[np.isfinite(flat)]


def _symmetric(ends: tuple[float, float]) -> tuple[float, float]:
    most = max(abs(ends[0]), abs(ends[1])) or 1.0
    return -most, most


def _by_percentile(counts: Array, ends: tuple[float, float]) -> tuple[float, float]:
    edges = np.linspace(*_symmetric(ends), len(counts) + 1)
    below = np.cumsum(counts) / counts.sum()
    outside = _PERCENT_OUTSIDE / 200
    low = edges[int(np.searchsorted(below, outside))]
    high = edges[min(int(np.searchsorted(below, 1 - outside)) + 1, len(counts))]
    return max(ends[0], float(low)), min(ends[1], float(high))


def _by_entropy(counts: Array, ends: tuple[float, float]) -> tuple[float, float]:
    magnitudes = counts[_BINS:] + counts[:_BINS][::-1]
    choices = range(_LEVELS, _BINS + 1, _STRIDE)
    n_kept = min(choices, key=lambda n: _divergence(magnitudes, n))
    most = _symmetric(ends)[1] * n_kept / _BINS
    return max(ends[0], -most), min(ends[1], most)


def _divergence(magnitudes: Array, n_kept: int) -> float:
    """Between the first bins with all the rest in the last of them, and these bins with 128 levels only."""
    kept = magnitudes[:n_kept].astype(np.float64)
    true = kept.copy()
    true[-1] += magnitudes[n_kept:].sum()
    starts = np.arange(_LEVELS) * n_kept // _LEVELS
    used = kept > 0
    n_used = np.maximum(np.add.reduceat(used, starts, dtype=np.int64), 1)
    level = np.repeat(np.add.reduceat(kept, starts) / n_used, np.diff(starts, append=n_kept))
    rough = np.where(used, level, 0.0)
    seen = true > 0
    share, rough_share = true[seen] / true.sum(), np.maximum(rough[seen] / max(rough.sum(), 1.0), _NEVER)
    return float(np.sum(share * np.log(share / rough_share)))
