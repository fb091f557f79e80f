"""Weights and arithmetic in 16-bit floats, inputs and outputs as they were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optimizer.errors import StageFailed
from optimizer.quiet import tool
from optimizer.transforms.agreement import MOST_REQUESTS, Reference, spread
from optimizer.transforms.base import Made, Material
from optimizer.transforms.calibrate import find_ranges
from optimizer.transforms.graph import count_operators, load_model, save_model
from optimizer.transforms.options import Option, settle
from optimizer.transforms.prepare import prepare
from server.backends.base import Array

if TYPE_CHECKING:
    from onnx import ModelProto

NAME = "fp16"
OPTIONS: tuple[Option, ...] = ()

_MOST = 65504.0
_LIKE_INFINITY = 1e30


def fp16(source: Path, out: Path, material: Material, options: Mapping[str, Any]) -> Made:
    """Half the size; faster where the device calculates in fp16. Satisfies Transform.

    Raises StageFailed, too, when a value inside leaves the range of fp16 on a real request: this machine may calculate in float32
    between its layers, and not notice.
    """
    settle(NAME, OPTIONS, options)
    original = load_model(source)
    largest = _check_ranges(source, spread(material.calibration, MOST_REQUESTS))
    made = _convert(load_model(source))
    n_bytes = save_model(made, original, out)
    cosine = Reference(original, material.calibration).compare(made).cosine
    data = {"cosine": cosine, "largest": largest, "bytes": n_bytes, "bytes_before": source.stat().st_size}
    return Made(f"agreement with the original {cosine:.6f}; the largest value inside is {largest:.4g} of {_MOST:.0f}", data)


def _check_ranges(source: Path, requests: Sequence[Mapping[str, Array]]) -> float:
    """The largest magnitude of any activation. What is written like an infinity, to mask a place, stays one and does not count."""
    model = prepare(source)
    with tool("looking for values beyond fp16"):
        ranges = find_ranges(model, "min-max", tuple(count_operators(model)), requests)
    largest = {}
    for name, found in ranges.items():
        largest[name] = max((abs(end) for end in found if abs(end) < _LIKE_INFINITY), default=0.0)
    worst = max(largest, key=lambda name: largest[name], default="")
    if worst and largest[worst] > _MOST:
        raise StageFailed(
            f"value {worst!r} inside reaches {largest[worst]:.4g}, fp16 ends at {_MOST:.0f}; leave the model in float32"
        )
    return largest.get(worst, 0.0)


def _convert(model: ModelProto) -> ModelProto:
    with tool("converting to fp16"):
        from onnxruntime.transformers.float16 import convert_float_to_float16

        converted: ModelProto = convert_float_to_float16(model, keep_io_types=True)
        return converted
