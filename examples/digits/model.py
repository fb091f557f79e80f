"""A small CNN that reads handwritten digits, trained here in seconds on scikit-learn's 8x8 images."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

MAX_ROWS = 64
OUTPUTS = ["logits"]

_SEED = 0
_EPOCHS = 40
_BATCH = 64

Array = npt.NDArray[np.generic]
Predict = Callable[[Mapping[str, Array]], Mapping[str, Array]]


class Digits(nn.Module):
    """image FP32 [batch, 1, 8, 8] with values 0..1 → logits FP32 [batch, 10]."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 12, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(12, 24, 3, padding=1, stride=2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(24 * 4 * 4, 48),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.Linear(48, 10),
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layers(image)
        return logits


def build() -> nn.Module:
    """The trained network, the same at every call."""
    torch.manual_seed(_SEED)
    model = Digits()
    images, labels, _, _ = _split()
    _train(model, torch.from_numpy(images), torch.from_numpy(labels))
    return model.eval()


def samples() -> list[dict[str, Array]]:
    """Sixty-four held-out images, one request each."""
    images, _ = held_out()
    return [{"image": images[n : n + 1]} for n in range(64)]


def score(predict: Predict) -> float:
    """Share of the held-out images that are read right."""
    images, labels = held_out()
    return float(np.mean(predict({"image": images})["logits"].argmax(axis=1) == labels))


def held_out() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Images FP32 [719, 1, 8, 8] and labels int64 [719] that training never sees."""
    _, _, images, labels = _split()
    return images, labels


def _split() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    pixels, labels = load_digits(return_X_y=True)
    images = (pixels / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    parts = train_test_split(images, labels, test_size=0.4, random_state=_SEED, stratify=labels)
    return parts[0], parts[2], parts[1], parts[3]


def _train(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> None:
    chance = torch.Generator().manual_seed(_SEED)
    n_steps = _EPOCHS * -(-len(images) // _BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=n_steps)
    for _ in range(_EPOCHS):
        for picked in torch.split(torch.randperm(len(images), generator=chance), _BATCH):
            optimizer.zero_grad()
            logits = model(_shift(images[picked], chance))
            loss = nn.functional.cross_entropy(logits, labels[picked], label_smoothing=0.05)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()


def _shift(images: torch.Tensor, chance: torch.Generator) -> torch.Tensor:
    """Half of the batches move by up to one pixel, so that the network does not rely on exact places."""
    if torch.rand(1, generator=chance) < 0.5:
        return images
    down, right = (int(step) for step in torch.randint(-1, 2, (2,), generator=chance))
    return torch.roll(images, (down, right), dims=(2, 3))
