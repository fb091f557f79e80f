"""The checklist of a version that generates: a tiny decoder is ready, and each kind of damage fails its own item."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from optimizer.inspection.checklist import checklist
from optimizer.inspection.generating_items import check_generating
from optimizer.inspection.readiness import Item, Mark
from optimizer.inspection.versions import find_version
from server.backends.base import Array
from server.backends.catalog import find_backends
from server.backends.decoding import Decoder
from server.backends.onnx_decoder import OnnxDecoderBackend
from server.contract.generation import Generation
from server.contract.layout import STEPS
from tests.talker import publish_talker


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    publish_talker(tmp_path)
    return tmp_path


def run(repository: Path) -> dict[str, Item]:
    items = checklist(find_version("talker", repository), find_backends(), Path("nosuch"))
    return {item.name: item for item in items}


def test_a_tiny_decoder_is_loaded_and_asked(repository: Path) -> None:
    items = run(repository)
    wanted = ("digests", "backend", "baseline", "SLO", "text", "edges", "rows")
    assert {name: items[name].mark for name in wanted} == dict.fromkeys(wanted, Mark.PASSED)
    assert "between tokens" in items["SLO"].detail


def test_steps_that_were_not_measured(repository: Path) -> None:
    (repository / "talker" / "1" / STEPS).unlink()
    items = run(repository)
    assert (items["baseline"].mark, items["SLO"].mark) == (Mark.FAILED, Mark.FAILED)
    assert items["rows"].mark is Mark.PASSED


def test_a_gap_that_not_even_one_row_keeps(repository: Path) -> None:
    wants = repository / "talker" / "model.toml"
    wants.write_text('slo = "1s"\ngap = "1us"\n')
    assert run(repository)["SLO"].mark is Mark.FAILED
    assert "not even one row keeps the gap: raise gap in model.toml" in run(repository)["SLO"].detail
    wants.unlink()
    assert "no model.toml" in run(repository)["SLO"].detail


class Leaning(OnnxDecoderBackend):
    """Its rows depend on how many there are, or are not numbers at all."""

    def __init__(self, blow_up: float = 1.0) -> None:
        self.blow_up = blow_up

    def load(self, folder: Path, generation: Generation, slots: int, threads: int) -> Decoder:
        decoder = super().load(folder, generation, slots, threads)
        decode = decoder.decode

        def lean(rows: object) -> Array:
            logits = decode(rows)  # type: ignore[arg-type]
            return (logits * self.blow_up + np.float32(len(logits))).astype(np.float32)

        decoder.decode = lean  # type: ignore[method-assign,assignment]
        return decoder


def test_rows_that_lean_on_their_neighbours_and_numbers_that_are_none(repository: Path) -> None:
    place = find_version("talker", repository)
    files = place.read()
    assert files.manifest.generation is not None

    def marks(backend: OnnxDecoderBackend) -> dict[str, Mark]:
        found = check_generating(place, files, files.manifest.generation, {backend.name: backend})  # type: ignore[arg-type]
        return {item.name: item.mark for item in found}

    assert marks(Leaning())["rows"] is Mark.FAILED
    assert marks(Leaning())["edges"] is Mark.PASSED
    assert marks(Leaning(float("nan")))["edges"] is Mark.FAILED


def test_no_backend_for_it(repository: Path) -> None:
    place = find_version("talker", repository)
    files = place.read()
    assert files.manifest.generation is not None
    (item,) = check_generating(place, files, files.manifest.generation, {})
    assert (item.name, item.mark) == ("backend", Mark.FAILED)
    assert "this ferry's for models that generate: none" in item.detail
