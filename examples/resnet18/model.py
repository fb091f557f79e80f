"""A network of ResNet-18's shape with random weights: nothing to learn from its answers, but its arithmetic is the real thing."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

MAX_ROWS = 16
OUTPUTS = ["logits"]

_SEED = 0
_SIDE = 224
_STAGES = ((64, 1), (128, 2), (256, 2), (512, 2))

Array = npt.NDArray[np.generic]


class Block(nn.Module):
    """Two 3x3 convolutions, added to what came in."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(n_in, n_out, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(n_out),
            nn.ReLU(),
            nn.Conv2d(n_out, n_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(n_out),
        )
        same = n_in == n_out and stride == 1
        self.around = (
            nn.Identity() if same else nn.Sequential(nn.Conv2d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm2d(n_out))
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.layers(image) + self.around(image))


class ResNet18(nn.Module):
    """image FP32 [batch, 3, 224, 224] → logits FP32 [batch, 1000]."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.Conv2d(3, 64, 7, 2, padding=3, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, padding=1),
        ]
        n_in = 64
        for n_out, stride in _STAGES:
            layers += [Block(n_in, n_out, stride), Block(n_out, n_out, 1)]
            n_in = n_out
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(n_in, 1000))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layers(image)
        return logits


def build() -> nn.Module:
    """The network, with the same random weights at every call."""
    torch.manual_seed(_SEED)
    network = ResNet18()
    for part in network.modules():
        if isinstance(part, nn.Conv2d):  # torch's own start lets the signal fade, and all images would get one answer
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
    return network.eval()


def samples() -> list[dict[str, Array]]:
    """Four images of noise, one request each."""
    rng = np.random.default_rng(_SEED)
    return [{"image": rng.random((1, 3, _SIDE, _SIDE), dtype=np.float32)} for _ in range(4)]
