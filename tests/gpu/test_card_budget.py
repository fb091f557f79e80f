"""What a real card tells of itself: free memory, what a model takes of it, and the figures for metrics."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

pytest.importorskip("onnx")

from server.backends.base import Backend, OnCard
from server.backends.cuda_memory import find_card
from server.backends.nvidia import CardReader, open_reader
from server.intake.build import Intake, build_version
from tests.gpu.shapes import encoder
from tests.models import QUICK

pytestmark = pytest.mark.gpu

Find = Callable[[str], Backend]
NAME = "onnxruntime-cuda-f32"


def test_a_model_takes_its_weights_of_the_card_and_gives_them_back(backend: Find, tmp_path: Path) -> None:
    used = backend(NAME)
    assert isinstance(used, OnCard)
    model = tmp_path / "model.onnx"
    model.write_bytes(encoder(4, 1024, 16, 500))
    used.load(tmp_path, 1).close()  # what the library takes once and for all
    before = used.card_memory()
    with closing(used.load(tmp_path, 1)):
        taken = before.free_bytes - used.card_memory().free_bytes
    assert taken >= model.stat().st_size
    assert before.free_bytes - used.card_memory().free_bytes < taken / 2
    assert before.free_bytes < before.total_bytes


def test_the_profile_says_what_was_taken(backend: Find, tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(encoder(4, 1024, 16, 500))
    intake = Intake("encoder", lengths=(1, 16), max_rows=4, effort=QUICK)
    _, profiles = build_version(tmp_path, backend(NAME), intake, lambda *_: None)
    assert all(max(cell.memory_bytes for cell in one.cells) >= model.stat().st_size for one in profiles.profiles)


def test_the_driver_tells_the_figures_for_metrics(backend: Find) -> None:
    backend(NAME)
    card = find_card()
    assert card is not None
    reader = open_reader(card)
    assert isinstance(reader, CardReader)
    with closing(reader):
        reading = reader.read()
    assert reading.memory_total_bytes == card.memory_bytes
    assert reading.uuid.startswith("GPU-")
