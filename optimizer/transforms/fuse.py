"""Attention, normalization and activation as one operator each, constants folded, what nothing reads removed: the same arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optimizer.errors import StageFailed
from optimizer.quiet import tool
from optimizer.transforms.agreement import Reference
from optimizer.transforms.base import Made, Material
from optimizer.transforms.graph import copy_of, count_operators, load_model, nodes_of, save_model
from optimizer.transforms.options import Option, settle

if TYPE_CHECKING:
    from onnx import ModelProto

NAME = "fuse"
OPTIONS: tuple[Option, ...] = ()

_STANDARD = ("", "ai.onnx")
_REQUESTS = 16
_ANY_SIZE = 1 << 31
_MOST_GROWTH = 1.02


def fuse(source: Path, out: Path, material: Material, options: Mapping[str, Any]) -> Made:
    """onnxscript's rewriting for ONNX Runtime. Satisfies Transform. Raises StageFailed, too, when it changes the answers."""
    settle(NAME, OPTIONS, options)
    original = load_model(source)
    made = _rewrite(load_model(source))
    n_bytes = save_model(made, original, out)
    before, after = count_operators(original), count_operators(made)
    agreement = Reference(original, material.calibration).compare(made, _REQUESTS)
    if agreement.excess > 1:
        raise StageFailed(f"the fused graph answers otherwise: {agreement.excess:.3g} times the tolerance of parity")
    fused = _vendor_operators(made)
    data = {
        "n_nodes_before": before.total(), "n_nodes": after.total(), "fused": fused,
        "operators_before": dict(sorted(before.items())), "operators": dict(sorted(after.items())), "bytes": n_bytes,
    }  # fmt: skip
    return Made(f"{_names(fused)}; {before.total()} → {after.total()} nodes", data)


def _rewrite(model: ModelProto) -> ModelProto:
    with tool("fusing operators"):
        import onnx_ir as ir
        from onnxscript.rewriter.ort_fusions import optimize_for_ort

        graph, _ = optimize_for_ort(ir.from_proto(model), clear_metadata=True)
        return _fold_weights(ir.to_proto(graph))


def _fold_weights(model: ModelProto) -> ModelProto:
    """Fold constants of every size: what is left to be packed or turned around at load cannot be quantized. A weight that is used in
    two ways would be stored twice, so that nothing is folded where the file would grow by it."""
    from onnxscript.optimizer import optimize

    folded: ModelProto = optimize(copy_of(model), input_size_limit=_ANY_SIZE, output_size_limit=_ANY_SIZE)
    return folded if folded.ByteSize() <= _MOST_GROWTH * model.ByteSize() else model


def _vendor_operators(model: ModelProto) -> dict[str, int]:
    """Operators that are not of the standard, with their number: what fusion made."""
    names = [node.op_type for node in nodes_of(model) if node.domain not in _STANDARD]
    return {name: names.count(name) for name in sorted(set(names))}


def _names(fused: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in fused.items()) or "no pattern to fuse"
