"""A small encoder for `ferry optimize`, to be served beside a model that generates: random weights, a batch takes milliseconds."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

NAME = "encoder"
MAX_ROWS = 8
OUTPUTS = ["embedding"]

_VOCABULARY, _N_TOKENS, _WIDTH, _LAYERS = 1000, 32, 256, 2


class Encoder(nn.Module):
    """ids int64 [batch, 32] → embedding FP32 [batch, 256]: the mean over the tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(_VOCABULARY, _WIDTH)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(_WIDTH, 4, 4 * _WIDTH, dropout=0.0, batch_first=True) for _ in range(_LAYERS)
        )

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = self.table(ids)
        for layer in self.layers:
            hidden = layer(hidden)
        return hidden.mean(dim=1)


def build() -> nn.Module:
    """The same at every call."""
    torch.manual_seed(0)
    return Encoder().eval()


def samples() -> list[Mapping[str, npt.NDArray[np.int64]]]:
    """Random ids, one request each."""
    generator = np.random.default_rng(0)
    return [{"ids": generator.integers(0, _VOCABULARY, (1, _N_TOKENS))} for _ in range(32)]
