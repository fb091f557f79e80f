"""Weights and arithmetic in 16-bit floats, inputs and outputs as they were."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optimizer.errors import StageFailed
from optimizer.quiet import tool
from optimizer.transforms.agreement import MOST_REQUESTS, Reference
from optimizer.transforms.base import Made, Material
from optimizer.transforms.graph import load_model, save_model
from optimizer.transforms.options import Option, settle

if TYPE_CHECKING:
    from onnx import ModelProto

NAME = "fp16"
OPTIONS: tuple[Option, ...] = ()


def fp16(source: Path, out: Path, material: Material, options: Mapping[str, Any]) -> Made:
    """Half the size; faster where the device calculates in fp16. Satisfies Transform.

    Raises StageFailed, too, when an answer is no longer finite: a value inside has left the range of fp16 (±65504).
    """
    settle(NAME, OPTIONS, options)
    original = load_model(source)
    made = _convert(load_model(source))
    n_bytes = save_model(made, original, out)
    agreement = Reference(original, material.calibration).compare(made, MOST_REQUESTS)
    if agreement.noise >= 1:
        raise StageFailed("answers in fp16 are useless or not finite: a value inside leaves its range (±65504)")
    data = {"cosine": agreement.cosine, "bytes": n_bytes, "bytes_before": source.stat().st_size}
    return Made(f"agreement with the original {agreement.cosine:.6f}", data)


def _convert(model: ModelProto) -> ModelProto:
    with tool("converting to fp16"):
        from onnxruntime.transformers.float16 import convert_float_to_float16

        converted: ModelProto = convert_float_to_float16(model, keep_io_types=True)
        return converted
