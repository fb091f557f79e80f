"""The range of every tensor over real requests, by ONNX Runtime's calibrators. Needs onnx."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnxruntime as ort

from server.backends.base import Array

if TYPE_CHECKING:
    from onnx import ModelProto

METHODS = ("min-max", "entropy", "percentile")

_BINS = 512
_LEVELS = 128
_PERCENTILE = 99.99


def find_ranges(model: ModelProto, method: str, operators: Sequence[str], requests: Sequence[Mapping[str, Array]]) -> Any:
    """ONNX Runtime's TensorsData: least and greatest value of each float tensor that these operators read or write.

    "min-max": what was seen. "entropy": the symmetric range, cut to what was seen, whose 8-bit histogram diverges least (KL) from
    the true one. "percentile": all but 0.01 % of the values. Each request is collected on its own: the tools that gather several
    first need them in one shape, and padding would count as data.
    """
    import onnx

    with tempfile.TemporaryDirectory() as folder:
        given, watched = Path(folder) / "given.onnx", Path(folder) / "watched.onnx"
        onnx.save(model, given)
        calibrator = _calibrator(method, given, operators, watched)
        calibrator.augment_graph()
        calibrator.infer_session = _session(watched)
        for request in requests:
            calibrator.collect_data(_One(request))
        return calibrator.compute_data()


def _calibrator(method: str, given: Path, operators: Sequence[str], watched: Path) -> Any:
    from onnxruntime.quantization.calibrate import EntropyCalibrater, MinMaxCalibrater, PercentileCalibrater

    if method == "min-max":
        return MinMaxCalibrater(given, operators, str(watched))
    if method == "entropy":  # with the tool's own number of bins there would be one range to choose from
        return EntropyCalibrater(given, operators, str(watched), num_bins=_BINS, num_quantized_bins=_LEVELS)
    return PercentileCalibrater(given, operators, str(watched), num_bins=4 * _BINS, percentile=_PERCENTILE)


def _session(path: Path) -> ort.InferenceSession:
    """One thread, so that sums are added up in the same order each time, and the ranges are the same to the last bit."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


class _One:
    """A single request, as a calibrator wants to read it."""

    def __init__(self, request: Mapping[str, Array]) -> None:
        self._left = [dict(request)]

    def get_next(self) -> dict[str, Array] | None:
        return self._left.pop() if self._left else None
