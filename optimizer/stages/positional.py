"""A module with positional inputs and a flat tuple of outputs, which exporters handle alike. Needs torch."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from optimizer.sources.opened import flatten


class _Positional(torch.nn.Module):
    def __init__(self, module: torch.nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.module = module
        self.names = tuple(names)

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        answer = self.module(**dict(zip(self.names, tensors, strict=True)))
        return tuple(flatten(answer).values())


def positional(module: torch.nn.Module, names: Sequence[str]) -> torch.nn.Module:
    """The same module, taking its inputs in the order of `names` and returning its outputs as a tuple."""
    return _Positional(module, names).eval()
