"""PyTorch module → model.onnx with named dynamic axes. Needs torch and onnx; the gates afterwards decide if it is right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optimizer.quiet import tool
from optimizer.stages.base import Result
from server.intake.inspect import BATCH
from server.intake.measure import Progress

if TYPE_CHECKING:
    from optimizer.sources.opened import Opened

OPSET = 20
MODEL_FILE = "model.onnx"

_MOST_ROWS = 4096


def export(opened: Opened, inputs: Mapping[str, Path], out: Path, progress: Progress) -> Result:
    """Writes model.onnx. Raises StageFailed with the exporter's own reason and, as its log, all that it printed."""
    from optimizer.stages.onnx_names import set_names

    progress("exporting", 0, 1)
    input_names = [spec.name for spec in opened.signature.inputs]
    safe_inputs = [f"ferry_input_{n}" for n in range(len(input_names))]
    safe_outputs = [f"ferry_output_{n}" for n in range(len(opened.output_names))]
    model = _export(opened, input_names, safe_inputs, safe_outputs)
    set_names(model, {**_pairs(safe_inputs, input_names), **_pairs(safe_outputs, opened.output_names)})
    data: bytes = model.SerializeToString(deterministic=True)
    (out / MODEL_FILE).write_bytes(data)
    n_nodes = len(model.graph.node)
    return Result(f"{n_nodes} nodes, {len(data) / 1e6:.2f} MB, opset {OPSET}", None, {"n_nodes": n_nodes, "bytes": len(data)})


def _export(opened: Opened, names: list[str], safe_inputs: list[str], safe_outputs: list[str]) -> Any:
    """The exporter renames inputs and outputs without looking whether a value inside has that name already, which
    gives an invalid file; so it is given names that nobody has, and set_names gives the right ones."""
    import torch

    from optimizer.stages.positional import positional

    lengths = opened.lengths
    batch = opened.samples.batch(2, sum(lengths) // 2 if lengths else 0)
    with tool("torch.onnx cannot export the module"):
        program = torch.onnx.export(
            positional(opened.module, names),
            tuple(torch.from_numpy(batch[name]) for name in names),
            dynamo=True,
            verbose=False,
            dynamic_shapes={"tensors": _dynamic_shapes(opened)},
            input_names=safe_inputs,
            output_names=safe_outputs,
            opset_version=OPSET,
            external_data=False,
        )
    assert program is not None, "dynamo=True returns a program"
    return program.model_proto


def _dynamic_shapes(opened: Opened) -> tuple[dict[int, Any], ...]:
    """For each input, its free axes; equal names are the same size everywhere."""
    from torch.export import Dim

    dims: dict[str, Any] = {BATCH: Dim(BATCH, min=1, max=_MOST_ROWS)}
    if opened.signature.ragged_axis and opened.lengths:
        dims[opened.signature.ragged_axis] = Dim(opened.signature.ragged_axis, min=opened.lengths[0], max=opened.lengths[1])
    return tuple(
        {axis: dims[name] for axis, name in enumerate(spec.shape) if isinstance(name, str)} for spec in opened.signature.inputs
    )


def _pairs(old: Sequence[str], new: Sequence[str]) -> dict[str, str]:
    return dict(zip(old, new, strict=True))
