"""Copies of published versions with something changed in their manifest or profile. For tests only."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

Change = Callable[[dict[str, Any]], object]


def copy_of(made: Path, model: str, to: Path) -> Path:
    """A repository with this model alone."""
    shutil.copytree(made / model, to / model)
    return to


def change(folder: Path, file: str, how: Change) -> None:
    """Rewrites a JSON file of a version."""
    path = folder / file
    data = json.loads(path.read_text())
    how(data)
    path.write_text(json.dumps(data))


def compared(data: dict[str, Any]) -> None:
    """As if a score had been taken."""
    data["checks"].append({"name": "score", "passed": True, "detail": "0.9910, PyTorch 0.9910: no loss (allowed: 0.5)"})
