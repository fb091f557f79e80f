"""A decoder graph with weights of 8 or 4 bits: what a step reads shrinks, and rows still do not depend on each other. Needs onnx.

Activations are rounded to int8 in blocks of a row's own; a scale for a whole batch would tie its rows together.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from optimizer.decoder.rewrite import DATA, MODEL
from optimizer.errors import StageFailed
from optimizer.quiet import tool
from optimizer.stages.base import Result
from optimizer.transforms.tables import shrink_tables
from server.intake.measure import Progress

if TYPE_CHECKING:
    from onnx import ModelProto

DISTRIBUTIONS = ("onnx", "onnxruntime", "numpy")
BLOCKS = {8: 64, 4: 32}
"""Bits → weights of one column that share a scale. With 128, or with activations in float, the library's kernels for one row and for
several round differently (seen with 1.31)."""

_INT8_ARITHMETIC = 4
"""The level at which blocks are multiplied in int8."""


@dataclass(frozen=True, slots=True)
class QuantizeTask:
    """`folder`: of the decoder in float32. `bits`: 8 or 4, of the matrices; embeddings get 8."""

    folder: Path
    bits: int

    def __call__(self, out: Path, progress: Progress) -> Result:
        """Writes MODEL and DATA. Raises StageFailed when there is nothing to quantize, or the tool fails."""
        import onnx

        progress(f"weights to {self.bits} bits", 0, 1)
        model = onnx.load(self.folder / MODEL)
        _own_table(model)
        shrink_tables(model)
        made = _quantized(model, self.bits)
        n_matrices = sum(node.op_type == "MatMulNBits" for node in made.graph.node)
        if not n_matrices:
            raise StageFailed("nothing to quantize: no MatMul has a constant matrix")
        onnx.save_model(made, out / MODEL, save_as_external_data=True, location=DATA)
        n_bytes = sum((out / name).stat().st_size for name in (MODEL, DATA))
        note = f"{n_matrices} matrices with {self.bits}-bit weights (block {BLOCKS[self.bits]}), {n_bytes / 1e6:.2f} MB"
        return Result(note, None, {"bytes": n_bytes})


def _own_table(model: ModelProto) -> None:
    """Embeddings that are the head's matrix, turned round, become a table of their own: each is then rounded for its own use."""
    from onnx import numpy_helper

    graph = model.graph
    weights = {one.name: one for one in graph.initializer}
    for node in [one for one in graph.node if one.op_type == "Transpose" and one.input[0] in weights]:
        turned = next(one.ints for one in node.attribute if one.name == "perm")
        table = numpy_helper.to_array(weights[node.input[0]]).transpose(turned)
        graph.initializer.append(numpy_helper.from_array(table.copy(), node.output[0]))
        graph.node.remove(node)


def _quantized(model: ModelProto, bits: int) -> ModelProto:
    with tool(f"quantizing weights to {bits} bits"):
        from onnx import helper
        from onnxruntime.quantization.matmul_nbits_quantizer import DefaultWeightOnlyQuantConfig, MatMulNBitsQuantizer

        config = DefaultWeightOnlyQuantConfig(block_size=BLOCKS[bits], is_symmetric=True, bits=bits)
        quantizer = MatMulNBitsQuantizer(model, algo_config=config)
        quantizer.process()
        made: ModelProto = quantizer.model.model
        for node in made.graph.node:
            if node.op_type == "MatMulNBits":
                node.attribute.append(helper.make_attribute("accuracy_level", _INT8_ARITHMETIC))
    return made
