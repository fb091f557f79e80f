"""A model repository as files on disk: a copy that holds one model under another objective, and what a profile says."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from loadtests.errors import MissingData


@dataclass(frozen=True, slots=True)
class Cells:
    """Measured seconds of a batch, the median, by rows and length (0 where a model has no lengths)."""

    seconds: dict[tuple[int, int], float]

    @property
    def max_rows(self) -> int:
        """The largest batch that was measured."""
        return max(rows for rows, _ in self.seconds)

    def batch_s(self, rows: int, length: float) -> float:
        """Seconds of a measured batch size at a length, in a straight line between the measured ones."""
        column = sorted((at, seconds) for (one, at), seconds in self.seconds.items() if one == rows)
        lengths, values = zip(*column, strict=True)
        return float(np.interp(length, lengths, values))

    def row_s(self, length: float) -> float:
        """Least seconds per row at a length: of the batch size that is best there."""
        return min(self.batch_s(rows, length) / rows for rows in {rows for rows, _ in self.seconds})


def manifest(version: Path) -> dict[str, Any]:
    """What `manifest.json` in a version's folder says. Raises MissingData."""
    found = _json(version / "manifest.json")
    if not isinstance(found, dict):
        raise MissingData(f"{version / 'manifest.json'} is no manifest: it must be an object")
    return found


def cells(version: Path) -> Cells:
    """What `profile.json` in a version's folder holds; of several placements the one with the highest rate, which is the first.

    Raises MissingData.
    """
    found = _json(version / "profile.json")
    try:
        grid = found["profiles"][0] if "profiles" in found else found
        return Cells({(one["rows"], one["length"]): one["p50_s"] for one in grid["cells"]})
    except (KeyError, TypeError, IndexError) as error:
        raise MissingData(f"{version / 'profile.json'} is no profile: {type(error).__name__} {error}") from error


def _json(file: Path) -> Any:
    try:
        return orjson.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise MissingData(f"cannot read {file}: {error}") from error


def copy_of(version: Path, repository: Path, slo_s: float | None) -> Path:
    """Copy one version and its model's wishes into `repository`, with another objective if one is given; the model's folder.

    Raises OSError.
    """
    model = repository / version.parent.name
    shutil.copytree(version, model / version.name)
    wants = (version.parent / "model.toml").read_text()
    if slo_s is not None:
        wants = re.sub(r'^slo = "[^"]*"', f'slo = "{slo_s * 1e3:g}ms"', wants, flags=re.MULTILINE)
    (model / "model.toml").write_text(wants)
    return model


def mean_length(lengths: Sequence[int]) -> float:
    """Of the rows that are asked; 0 where a model has no lengths."""
    return float(np.mean(lengths)) if lengths else 0.0
