"""A tiny checkpoint and its export, made once: the exporter takes seconds."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from optimizer.decoder import export
from optimizer.decoder.checkpoint import read_checkpoint
from optimizer.decoder.export import ExportTask
from tests.optimizer.decoder.bench import DecoderBench
from tests.optimizer.decoder.tiny import write_checkpoint


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not to be changed by a test."""
    pytest.importorskip("transformers")
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny")


@pytest.fixture(scope="session")
def built(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The exporter's own files of it. Not to be changed by a test."""
    pytest.importorskip("onnxruntime_genai")
    folder = tmp_path_factory.mktemp("built")
    export.build(tiny_checkpoint, folder / "built", folder / "cache")
    return folder / "built"


@pytest.fixture(scope="session")
def exported(tiny_checkpoint: Path, built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with its decoder graph. Not to be changed by a test."""
    out = tmp_path_factory.mktemp("exported") / "out"
    out.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "build", lambda checkpoint, folder, cache: shutil.copytree(built, folder))
        ExportTask(tiny_checkpoint, read_checkpoint(tiny_checkpoint).generation.kept)(out, lambda what, done, total: None)
    return out


@pytest.fixture(scope="session")
def first_run(tiny_checkpoint: Path, built: Path, tmp_path_factory: pytest.TempPathFactory) -> DecoderBench:
    """A whole run with nothing in the cache; others start with what it left there. Not to be changed by a test."""
    with pytest.MonkeyPatch.context() as patch:
        bench = DecoderBench(tiny_checkpoint, built, tmp_path_factory.mktemp("first"), patch)
        bench.run(gap_s=10.0)
    return bench


@pytest.fixture
def bench(first_run: DecoderBench, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DecoderBench:
    """Whole runs without the exporter and without processes of their own, with all of `first_run` in the cache."""
    shutil.copytree(first_run.cache, tmp_path / "cache")
    return DecoderBench(first_run.checkpoint, built, tmp_path, monkeypatch)
