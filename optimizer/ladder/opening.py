"""Opens a candidate's files with the backend that is to serve them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from optimizer.ladder.subject import load
from server.backends.base import Backend, Session

SOURCE = "model.onnx"
"""Under this name a backend finds the ONNX file beside an engine that was built of it, and the fallback the file that it serves."""


def served_files(backend: Backend, model: Path, engine: Path | None) -> dict[str, Path]:
    """Name in the version folder → file. `engine`: what was built of `model` for the backend; None: it takes `model` itself."""
    return {backend.model_file: model} if engine is None else {backend.model_file: engine, SOURCE: model}


def open_file(backend: Backend, files: Mapping[str, Path], folder: Path, threads: int) -> Session:
    """Sessions load from folders that hold the files under the backend's own names; weights are mapped from a link, not copied. `folder`
    is made, or was by an earlier call for the same files. Raises StageFailed with the runtime's reason."""
    folder.mkdir(exist_ok=True)
    for name, file in files.items():
        if not (folder / name).exists():
            os.link(file, folder / name)
    return load(backend, folder, threads)
