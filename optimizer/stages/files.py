"""Arrays on disk between stages: nested one level deep, without pickling."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from server.backends.base import Array

SAMPLES = "samples.npz"
"""The user's sample requests, by number."""

RECORDED = "recorded.npz"
"""PyTorch's answers to samples, each asked alone, by the sample's number."""

TEXTS = "texts.json"
"""The texts of the samples, of a model that takes text."""


def write_arrays(path: Path, groups: Mapping[str, Mapping[str, Array]]) -> None:
    """One .npz file with an entry `group/name` per array."""
    named = {f"{group}/{name}": array for group, arrays in groups.items() for name, array in arrays.items()}
    np.savez(path, **named)  # type: ignore[arg-type]  # the stub takes names for its own options


def read_arrays(path: Path) -> dict[str, dict[str, Array]]:
    """What write_arrays wrote, groups in their order."""
    groups: dict[str, dict[str, Array]] = {}
    with np.load(path, allow_pickle=False) as found:
        for key in found.files:
            group, name = key.split("/", 1)
            groups.setdefault(group, {})[name] = found[key]
    return groups
