"""The vocabulary of transforms: what one is given, and what it tells of what it did."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from server.backends.base import Array


@dataclass(frozen=True, slots=True)
class Material:
    """What a transform may use besides the model file.

    `calibration`: real requests, each input name → array [1, …], of the lengths they came with; at least one. `pads`: what fills
    each input that has the ragged axis, by name. `ragged_axis`: that axis's name in the model's inputs; None: there is none.
    """

    calibration: Sequence[Mapping[str, Array]]
    pads: Mapping[str, int | float] = field(default_factory=dict)
    ragged_axis: str | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """What became of it: a line for people, and figures for the report (JSON)."""

    note: str
    data: Mapping[str, Any] = field(default_factory=dict)


Transform = Callable[[Path, Path, Material, Mapping[str, Any]], Made]
"""(model file, file to write, material, options) → what was done. All weights stay inside the file; names, types and free axes of
inputs and outputs stay as they are. The same arguments give the same bytes. Raises StageFailed with the tool's own reason, and
OptimizeError for an option that it does not know or that has a wrong value."""
