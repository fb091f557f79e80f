"""minilm for Olive's own exporter: the very module that ferry is given, and what its inputs look like. Olive knows these names."""

from __future__ import annotations

from typing import Any

from examples.minilm.model import build

AXES = {0: "batch", 1: "sequence"}


def _model_loader(_: str) -> Any:
    return build()


def _io_config(_: Any) -> dict[str, Any]:
    return {
        "input_names": ["input_ids", "attention_mask"],
        "input_types": ["int64", "int64"],
        "input_shapes": [[2, 8], [2, 8]],
        "output_names": ["sentence_embedding"],
        "dynamic_axes": {"input_ids": AXES, "attention_mask": AXES, "sentence_embedding": {0: "batch"}},
    }
