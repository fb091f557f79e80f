"""A finished .onnx file as the first artifact of a run. Needs neither torch nor onnx."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from optimizer.stages.base import Result
from optimizer.stages.verify import load
from server.backends.base import Backend
from server.contract.layout import TOKENIZER
from server.contract.manifest import Check
from server.intake.measure import Progress

ORIGINAL = "original"
"""Name of the check of a version that is its own original: it answers what the file answered, right or wrong."""


def take(
    inputs: Mapping[str, Path], out: Path, progress: Progress, *, path: Path, backend: Backend, tokenizer: Path | None = None
) -> Result:
    """Copies the file, and its tokenizer, and loads it once. Raises StageFailed when the serving runtime does not take it."""
    progress("loading the file", 0, 1)
    shutil.copyfile(path, out / backend.model_file)
    if tokenizer is not None:
        shutil.copyfile(tokenizer, out / TOKENIZER)
    session = load(backend, out)
    names = [spec.name for spec in session.inputs], [spec.name for spec in session.outputs]
    session.close()
    note = f"{path.name}, {path.stat().st_size / 1e6:.2f} MB: {', '.join(names[0])} → {', '.join(names[1])}"
    return Result(note, Check(ORIGINAL, True, f"{path.name} as it was given, unchanged"), {"bytes": path.stat().st_size})
