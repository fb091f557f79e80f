"""A small encoder of the usual kind. Needs torch."""

from __future__ import annotations

import torch
from torch import nn

_WIDTH, _HEADS = 64, 4


class Layer(nn.Module):
    """Attention and a feed-forward part, each added to what came in and normalized."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(_WIDTH, _WIDTH) for _ in range(4))
        self.wide, self.narrow = nn.Linear(_WIDTH, 4 * _WIDTH), nn.Linear(4 * _WIDTH, _WIDTH)
        self.norm, self.last_norm = nn.LayerNorm(_WIDTH), nn.LayerNorm(_WIDTH)

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        heads = [self._split(part(hidden)) for part in (self.query, self.key, self.value)]
        seen = nn.functional.scaled_dot_product_attention(*heads, attn_mask=mask)
        hidden = self.norm(hidden + self.out(seen.transpose(1, 2).flatten(2)))
        result: torch.Tensor = self.last_norm(hidden + self.narrow(nn.functional.gelu(self.wide(hidden))))
        return result

    def _split(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden.unflatten(2, (_HEADS, _WIDTH // _HEADS)).transpose(1, 2)


class Encoder(nn.Module):
    """Mean over the tokens that the mask keeps."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(512, _WIDTH)
        self.layers = nn.ModuleList(Layer() for _ in range(2))

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        weight = mask.to(torch.float32)
        hidden = self.table(ids)
        kept = (1 - weight)[:, None, None, :] * torch.finfo(torch.float32).min
        for layer in self.layers:
            hidden = layer(hidden, kept)
        return (hidden * weight[..., None]).sum(1) / weight.sum(1, keepdim=True)
