"""The calibration data of an Olive workflow: the rows of an .npz file, each input an array [n, …], one row at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
from olive.data.registry import Registry


class Rows:
    """(inputs of one row without the batch axis, 0) each: Olive asks for a label."""

    def __init__(self, file: str) -> None:
        known = np.load(file)
        self._arrays = {name: known[name] for name in known.files}

    def __len__(self) -> int:
        return len(next(iter(self._arrays.values())))

    def __getitem__(self, at: int) -> tuple[dict[str, Any], int]:
        return {name: array[at] for name, array in self._arrays.items()}, 0


@Registry.register_dataset()
def known_rows(file: str, **_: Any) -> Rows:
    """What the workflow's load_dataset_config names."""
    return Rows(file)
