"""Opens a candidate's file with the backend that is to serve it."""

from __future__ import annotations

import os
from pathlib import Path

from optimizer.ladder.subject import load
from server.backends.base import Backend, Session


def open_file(backend: Backend, model: Path, folder: Path, threads: int) -> Session:
    """Sessions load from folders that hold the file under the backend's own name; weights are mapped from a link, not copied. `folder`
    is made, or was by an earlier call for the same file. Raises StageFailed with the runtime's reason."""
    folder.mkdir(exist_ok=True)
    if not (folder / backend.model_file).exists():
        os.link(model, folder / backend.model_file)
    return load(backend, folder, threads)
