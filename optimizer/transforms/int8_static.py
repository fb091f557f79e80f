"""int8 weights and activations with ranges fixed beforehand, written as QuantizeLinear/DequantizeLinear pairs (QDQ)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from optimizer.errors import StageFailed
from optimizer.quiet import tool
from optimizer.transforms.agreement import MOST_REQUESTS, Agreement, Reference, spread
from optimizer.transforms.base import Made, Material
from optimizer.transforms.calibrate import METHODS, Ranges, find_ranges
from optimizer.transforms.facts import has_attention, has_normalization
from optimizer.transforms.graph import copy_of, count_operators, float_values, load_model, save_model, weighted_layers
from optimizer.transforms.options import OneOf, settle
from optimizer.transforms.prepare import WEIGHT_BITS, prepare
from optimizer.transforms.sensitivity import MIN_COSINE, choose
from optimizer.transforms.smooth import SMOOTHING, smooth
from optimizer.transforms.tables import TABLES, shrink_tables

if TYPE_CHECKING:
    from onnx import ModelProto

NAME = "int8-static"
OPTIONS = (
    OneOf("activations", "u8", ("u8", "s8"), "u8 is fast on x86, where s8 is slow; s8 is symmetric, as TensorRT wants it"),
    OneOf("biases", "int32", ("int32", "float"), "float is what TensorRT reads; int32 is what ONNX Runtime has kernels for"),
    OneOf("calibration", METHODS[0], METHODS, "how the range of an activation is chosen"),
    WEIGHT_BITS,
    SMOOTHING,
    MIN_COSINE,
    TABLES,
)

_WEIGHTED = ("Conv", "ConvTranspose", "MatMul", "Gemm")
_BETWEEN = ("Add", "Mul", "LeakyRelu", "Sigmoid", "AveragePool", "GlobalAveragePool", "Concat")
_FOLLOWING = (
    "Relu", "Clip", "MaxPool", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Pad", "Resize", "Slice", "Split",
)  # fmt: skip


class Scope(Enum):
    """Which operators work on int8; the value says why."""

    LAYERS = "layers with weights only: between them are normalizations and attention, which need floats"
    CHAIN = "layers with weights and all between them, so that a chain of them never leaves int8"


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is quantized: `layers` may each be left out, `following` operators are whatever their input is."""

    scope: Scope
    layers: tuple[str, ...]
    following: tuple[str, ...]

    @property
    def operators(self) -> tuple[str, ...]:
        return _WEIGHTED if self.scope is Scope.LAYERS else (*_WEIGHTED, *_BETWEEN, *_FOLLOWING)


def int8_static(source: Path, out: Path, material: Material, options: Mapping[str, Any]) -> Made:
    """Weights int8 per channel, activations of fixed range; the layers that add the most noise stay float. Satisfies Transform."""
    settings = settle(NAME, OPTIONS, options)
    original, prepared = load_model(source), prepare(source)
    tables = shrink_tables(prepared) if settings["tables"] == "int8" else []
    plan = _plan(prepared)
    requests = spread(material.calibration, MOST_REQUESTS)
    smoothed = smooth(prepared, requests) if settings["smoothing"] == "on" and plan.scope is Scope.LAYERS else []
    with tool("calibrating"):
        ranges = find_ranges(prepared, settings["calibration"], plan.operators, requests)
    reference = Reference(original, requests)

    def quantize(layers: Sequence[str]) -> ModelProto:
        return _quantize(prepared, ranges, plan, layers, settings)

    def measure(layers: Sequence[str], n_most: int) -> Agreement:
        return reference.compare(quantize(layers), n_most)

    choice = choose(plan.layers, measure, settings["min_cosine"])
    made = quantize(choice.changed)
    n_bytes = save_model(made, original, out)
    kinds = f"in int8 ({settings['activations']} activations, {settings['calibration']} over {len(requests)} requests)"
    note = choice.sentence(kinds, "left in float")
    data = {
        **choice.data(),
        "scope": plan.scope.name.lower(),
        "tables": tables,
        "smoothed": smoothed,
        "bytes": n_bytes,
        "n_requests": len(requests),
    }
    return Made(note, data)


def _plan(model: ModelProto) -> _Plan:
    operators = count_operators(model)
    chain = (operators["Conv"] or operators["ConvTranspose"]) and not (has_attention(model) or has_normalization(model))
    scope = Scope.CHAIN if chain else Scope.LAYERS
    layers = weighted_layers(model, _WEIGHTED)
    if not layers:
        found = ", ".join(sorted(operators))
        raise StageFailed(f"nothing to quantize: no MatMul, Gemm or Conv has float32 weights in the file (operators: {found})")
    if scope is Scope.LAYERS:
        return _Plan(scope, tuple(layers), ())
    floats = float_values(model)
    between = {node.name for node in model.graph.node if node.op_type in _BETWEEN and node.output[0] in floats}
    wanted = between | set(layers)
    following = [node.name for node in model.graph.node if node.op_type in _FOLLOWING]
    return _Plan(scope, tuple(node.name for node in model.graph.node if node.name in wanted), tuple(following))


def _quantize(
    prepared: ModelProto, ranges: Ranges, plan: _Plan, layers: Sequence[str], settings: Mapping[str, Any]
) -> ModelProto:  # fmt: skip
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    known = {name: (np.float32(low), np.float32(high)) for name, (low, high) in ranges.items()}
    signed = settings["activations"] == "s8"
    with tool("quantizing"):
        quantizer = QDQQuantizer(
            copy_of(prepared),
            per_channel=True,
            reduce_range=settings["weight_bits"] == 7,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QInt8 if signed else QuantType.QUInt8,
            tensors_range=TensorsData(CalibrationMethod.MinMax, known),
            nodes_to_quantize=[*layers, *plan.following],
            nodes_to_exclude=[],
            op_types_to_quantize=list(plan.operators),
            extra_options={
                "ActivationSymmetric": signed,
                "WeightSymmetric": True,
                "QuantizeBias": settings["biases"] == "int32",
                # Their kernels write floats as fast as int8, and what follows them, a softmax, an addition or the answer, needs floats.
                "OpTypesToExcludeOutputQuantization": ["MatMul", "Gemm"],
            },
        )
        quantizer.quantize_model()
        quantizer.model.topological_sort()
        made: ModelProto = quantizer.model.model
    if plan.scope is Scope.LAYERS:
        _spare_others(made, set(layers))
    return made


def _spare_others(model: ModelProto, layers: set[str]) -> None:
    """The tool gives a quantized tensor to all who read it. Residual sums, normalizations and layers that are left out get back the
    floats it was made of, in place: that costs nothing, and the noise would go on through the whole network. What a Conv answers
    stays int8: its kernel knows no other answer."""
    answers = {node.output[0] for node in model.graph.node if node.op_type in ("Conv", "ConvTranspose") and node.name in layers}
    quantized = {
        node.output[0]: node.input[0]
        for node in model.graph.node
        if node.op_type == "QuantizeLinear" and node.input[0] not in answers
    }
    floats = {
        node.output[0]: quantized[node.input[0]]
        for node in model.graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in quantized
    }
    for node in model.graph.node:
        if node.name not in layers:
            node.input[:] = [floats.get(name, name) for name in node.input]
