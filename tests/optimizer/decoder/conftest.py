"""A tiny checkpoint and its export, made once: the exporter takes seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from optimizer.decoder.checkpoint import read_checkpoint
from optimizer.decoder.export import ExportTask
from tests.optimizer.decoder.tiny import write_checkpoint


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not to be changed by a test."""
    pytest.importorskip("transformers")
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny")


@pytest.fixture(scope="session")
def exported(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with its decoder graph. Not to be changed by a test."""
    pytest.importorskip("onnxruntime_genai")
    out = tmp_path_factory.mktemp("exported") / "out"
    out.mkdir()
    ExportTask(tiny_checkpoint, read_checkpoint(tiny_checkpoint).generation.kept)(out, lambda what, done, total: None)
    return out
