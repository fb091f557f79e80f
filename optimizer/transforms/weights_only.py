"""Weights in blocks of 8 or 4 bits, activations as they are: what is read from memory shrinks, what is calculated does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optimizer.errors import StageFailed
from optimizer.quiet import tool
from optimizer.transforms.agreement import Agreement, Reference
from optimizer.transforms.base import Made, Material
from optimizer.transforms.graph import copy_of, count_operators, load_model, save_model, weighted_layers
from optimizer.transforms.options import OneOf, Option, settle
from optimizer.transforms.prepare import gemm_as_matmul, prepare
from optimizer.transforms.sensitivity import MIN_COSINE, choose
from optimizer.transforms.tables import TABLES, shrink_tables

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

NAME_8, NAME_4 = "weights-int8", "weights-int4"

_BLOCKS = (16, 32, 64, 128, 256)
_BLOCK = OneOf("block", 128, _BLOCKS, "weights of one column that share a scale; fewer are more exact, and larger")
_ARITHMETIC = OneOf("arithmetic", "int8", ("int8", "float"), "what a block is multiplied in; int8 rounds the activations, too")
_METHOD = OneOf("method", "rtn", ("rtn", "hqq"), "rtn rounds to the nearest; hqq optimizes scale and zero (needs torch)")

OPTIONS_8: tuple[Option, ...] = (_BLOCK, _ARITHMETIC, MIN_COSINE, TABLES)
OPTIONS_4: tuple[Option, ...] = (_METHOD, replace(_BLOCK, default=32), _ARITHMETIC, replace(MIN_COSINE, default=0.99), TABLES)


def weights_int8(source: Path, out: Path, material: Material, options: Mapping[str, Any]) -> Made:
    """8-bit weights, rounded to the nearest. Satisfies Transform."""
    return _transform(source, out, material, {**settle(NAME_8, OPTIONS_8, options), "bits": 8, "method": "rtn"})


def weights_int4(source: Path, out: Path, material: Material, options: Mapping[str, Any]) -> Made:
    """4-bit weights, rounded to the nearest or by half-quadratic quantization (HQQ, Badri and Shaji 2023). Satisfies Transform."""
    return _transform(source, out, material, {**settle(NAME_4, OPTIONS_4, options), "bits": 4})


def _transform(source: Path, out: Path, material: Material, settings: Mapping[str, Any]) -> Made:
    original, prepared = load_model(source), prepare(source)
    gemm_as_matmul(prepared)
    tables = shrink_tables(prepared) if settings["tables"] == "int8" else []
    layers = _layers(prepared)
    reference = Reference(original, material.calibration)

    def measure(layers: Sequence[str], n_most: int) -> Agreement:
        return reference.compare(_quantize(prepared, layers, settings), n_most)

    choice = choose(layers, measure, settings["min_cosine"])
    made = _quantize(prepared, choice.changed, settings)
    n_bytes = save_model(made, original, out)
    note = choice.sentence(
        f"with {settings['bits']}-bit weights ({settings['method']}, block {settings['block']})", "left in float"
    )  # fmt: skip
    return Made(note, {**choice.data(), "tables": tables, "bytes": n_bytes, "n_requests": len(reference.requests)})


def _layers(model: ModelProto) -> list[str]:
    """MatMuls with a constant matrix of their own: the tool writes a shared one twice, under one name."""
    matrices = {one.name for one in model.graph.initializer if len(one.dims) == 2}
    readers: dict[str, list[NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    own = {
        node.name
        for node in model.graph.node
        if len(node.input) > 1 and node.input[1] in matrices and len(readers[node.input[1]]) == 1
    }
    layers = [name for name in weighted_layers(model, ("MatMul",)) if name in own]
    if not layers:
        found = ", ".join(sorted(count_operators(model)))
        raise StageFailed(
            f"nothing to quantize: no MatMul or Gemm has a float32 matrix of its own in the file (operators: {found})"
        )
    return layers


def _quantize(prepared: ModelProto, layers: Sequence[str], settings: Mapping[str, Any]) -> ModelProto:
    with tool("quantizing weights"):
        from onnx import helper
        from onnxruntime.quantization.matmul_nbits_quantizer import (
            DefaultWeightOnlyQuantConfig,
            HQQWeightOnlyQuantConfig,
            MatMulNBitsQuantizer,
        )

        block, bits = settings["block"], settings["bits"]
        if settings["method"] == "hqq":
            config = HQQWeightOnlyQuantConfig(block_size=block, bits=bits)
        else:
            config = DefaultWeightOnlyQuantConfig(block_size=block, bits=bits)
        kept = {node.name for node in prepared.graph.node if node.op_type == "MatMul"} - set(layers)
        quantizer = MatMulNBitsQuantizer(copy_of(prepared), algo_config=config, nodes_to_exclude=sorted(kept))
        quantizer.process()
        made: ModelProto = quantizer.model.model
        if settings["arithmetic"] == "int8":
            for node in made.graph.node:
                if node.op_type == "MatMulNBits":
                    node.attribute.append(helper.make_attribute("accuracy_level", 4))
    return made
