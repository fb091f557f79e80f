"""Muon: momentum whose matrices are made nearly orthogonal before they are applied; for the hidden matrices of a network.

K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

_QUINTIC = (3.4445, -4.7750, 2.0315)
"""Coefficients of the iteration: singular values between 0 and 1 go near 1 within five steps, none past 1.3."""


def orthogonalized(matrix: torch.Tensor, n_steps: int = 5) -> torch.Tensor:
    """[rows, columns] → the same, its singular values brought near 1 by a Newton-Schulz iteration of degree five, for which the
    precision of bfloat16 is enough."""
    a, b, c = _QUINTIC
    tall = matrix.size(0) > matrix.size(1)
    x = (matrix.mT if tall else matrix).bfloat16()
    x = x / (x.norm() + 1e-7)
    for _ in range(n_steps):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    made: torch.Tensor = (x.mT if tall else x).to(matrix.dtype)
    return made


class Muon:
    """`rate` is set by the caller before each step: how far a matrix moves, as a share of an orthogonal one of its shape."""

    def __init__(self, matrices: Iterable[torch.nn.Parameter], momentum: float = 0.95) -> None:
        self._matrices = list(matrices)
        self._momentum = momentum
        self._velocities = [torch.zeros_like(matrix) for matrix in self._matrices]

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Nesterov's momentum, made orthogonal, scaled so that tall matrices move as much as wide ones; then gradients are dropped."""
        for matrix, velocity in zip(self._matrices, self._velocities, strict=True):
            assert matrix.grad is not None, "every matrix is in the loss"
            velocity.lerp_(matrix.grad, 1 - self._momentum)
            ahead = matrix.grad.lerp(velocity, self._momentum)
            scale = max(1.0, matrix.size(0) / matrix.size(1)) ** 0.5
            matrix.add_(orthogonalized(ahead), alpha=-rate * scale)
            matrix.grad = None
