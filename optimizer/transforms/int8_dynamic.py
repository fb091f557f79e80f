"""int8 weights, and activations that are brought to int8 anew in each call, by the range that they have in it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optimizer.errors import StageFailed
from optimizer.quiet import tool
from optimizer.transforms.agreement import MOST_REQUESTS, Agreement, Reference, spread
from optimizer.transforms.base import Made, Material
from optimizer.transforms.graph import copy_of, count_operators, load_model, save_model, weighted_layers
from optimizer.transforms.options import settle
from optimizer.transforms.prepare import WEIGHT_BITS, gemm_as_matmul, prepare
from optimizer.transforms.sensitivity import MIN_COSINE, choose
from optimizer.transforms.smooth import SMOOTHING, smooth
from optimizer.transforms.tables import TABLES, shrink_tables

if TYPE_CHECKING:
    from onnx import ModelProto

NAME = "int8-dynamic"
OPTIONS = (WEIGHT_BITS, SMOOTHING, MIN_COSINE, TABLES)

# ONNX Runtime has no kernel for a dynamically quantized Conv with signed weights, and a slow one for unsigned.
_OPERATORS = ("MatMul",)


def int8_dynamic(source: Path, out: Path, material: Material, options: Mapping[str, Any]) -> Made:
    """Signed weights, one scale per channel; the layers that add the most noise stay float. Satisfies Transform.

    The scale of an activation is taken over the whole batch, padding included: an answer depends a little on what shares its batch.
    """
    settings = settle(NAME, OPTIONS, options)
    original, prepared = load_model(source), prepare(source)
    gemm_as_matmul(prepared)
    tables = shrink_tables(prepared) if settings["tables"] == "int8" else []
    layers = _layers(prepared)
    requests = spread(material.calibration, MOST_REQUESTS)
    smoothed = smooth(prepared, requests) if settings["smoothing"] == "on" else []
    reference = Reference(original, requests)

    def measure(layers: Sequence[str], n_most: int) -> Agreement:
        return reference.compare(_quantize(prepared, layers, settings), n_most)

    choice = choose(layers, measure, settings["min_cosine"])
    made = _quantize(prepared, choice.changed, settings)
    n_bytes = save_model(made, original, out)
    note = choice.sentence("in int8 (dynamic ranges)", "left in float")
    return Made(note, {**choice.data(), "tables": tables, "smoothed": smoothed, "bytes": n_bytes, "n_requests": len(requests)})


def _layers(model: ModelProto) -> list[str]:
    layers = weighted_layers(model, _OPERATORS)
    if not layers:
        found = ", ".join(sorted(count_operators(model)))
        raise StageFailed(f"nothing to quantize: no MatMul or Gemm has float32 weights in the file (operators: {found})")
    return layers


def _quantize(prepared: ModelProto, layers: Sequence[str], settings: Mapping[str, Any]) -> ModelProto:
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder, tool("quantizing"):
        path = Path(folder) / "made.onnx"
        quantize_dynamic(
            copy_of(prepared),
            path,
            op_types_to_quantize=list(_OPERATORS),
            per_channel=True,
            reduce_range=settings["weight_bits"] == 7,
            weight_type=QuantType.QInt8,
            nodes_to_quantize=list(layers),
            # What a vendor's operator returns has no known type; that of all these layers is float.
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
        )
        return onnx.load(path)
