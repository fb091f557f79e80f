"""minilm for Olive's own exporter: the very module that ferry is given, and what its inputs look like."""

from __future__ import annotations

from typing import Any

import torch

from examples.minilm.model import build

AXES = {0: "batch", 1: "sequence"}


def _model_loader(_: str) -> torch.nn.Module:
    return build()


def _io_config(_: Any) -> dict[str, Any]:
    return {
        "input_names": ["input_ids", "attention_mask"],
        "output_names": ["sentence_embedding"],
        "dynamic_axes": {"input_ids": AXES, "attention_mask": AXES, "sentence_embedding": {0: "batch"}},
    }


def _dummy_inputs(_: Any) -> dict[str, torch.Tensor]:
    ids = torch.tensor([[101, 7592, 2088, 1010, 2129, 2024, 2017, 102]] * 2)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
