"""Loads a decoder through the backend that serves it; what goes wrong is a verdict on the graph."""

from __future__ import annotations

from pathlib import Path

from optimizer.errors import StageFailed
from server.backends.base import LoadError
from server.backends.decoding import Decoder, DecoderBackend
from server.contract.generation import Generation


def load(backend: DecoderBackend, folder: Path, generation: Generation, slots: int, threads: int) -> Decoder:
    """Raises StageFailed with the library's reason."""
    try:
        return backend.load(folder, generation, slots, threads)
    except LoadError as error:
        raise StageFailed(f"{backend.runtime} cannot load the decoder: {error}") from None
