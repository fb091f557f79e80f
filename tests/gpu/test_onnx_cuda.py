"""ONNX Runtime on a real card: answers, graphs, threads, failures."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")

from server.backends.base import Array, Backend, BatchError, LoadError
from server.backends.card_slots import N_SEEN
from server.backends.nvidia import find_cards
from server.backends.onnx_runtime import OnnxRuntimeBackend
from server.intake.build import Intake, build_version
from tests.gpu.shapes import encoder, residual
from tests.models import QUICK, affine, masked_mean

pytestmark = pytest.mark.gpu

Find = Callable[[str], Backend]
ALL = ("onnxruntime-cuda-f32", "onnxruntime-cuda-tf32")


def tokens(rows: int, length: int) -> dict[str, Array]:
    ids = np.random.default_rng(rows).integers(0, 500, (rows, length))
    return {"ids": ids, "mask": np.ones_like(ids)}


def cosine(one: Array, other: Array) -> float:
    flat, also = one.ravel().astype(np.float64), other.ravel().astype(np.float64)
    return float(flat @ also / np.linalg.norm(flat) / np.linalg.norm(also))


@pytest.mark.parametrize(("name", "least"), [(ALL[0], 1 - 1e-6), (ALL[1], 0.999)])
def test_answers_are_the_processors_launched_and_recorded(name: str, least: float, backend: Find, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(encoder(2, 64, 4, 500))
    plain = OnnxRuntimeBackend().load(tmp_path, 1)
    with closing(backend(name).load(tmp_path, 1)) as session:
        for rows, length in [(1, 8), (4, 17), (3, 5)] * (N_SEEN + 2):
            batch = tokens(rows, length)
            assert cosine(session.run(batch)[0], plain.run(batch)[0]) > least


@pytest.mark.parametrize("name", ALL)
def test_images_too(name: str, backend: Find, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(residual((1, 1), 16, 64, 10))
    image = {"image": np.random.default_rng(1).standard_normal((3, 3, 64, 64)).astype(np.float32)}
    (wanted,) = OnnxRuntimeBackend().load(tmp_path, 1).run(image)
    with closing(backend(name).load(tmp_path, 1)) as session:
        for _ in range(N_SEEN + 2):
            assert cosine(session.run(image)[0], wanted) > 0.999


def test_four_threads_get_their_own_answers(backend: Find, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(affine())
    with closing(backend(ALL[0]).load(tmp_path, 1)) as session, ThreadPoolExecutor(4) as pool:
        batches = [np.full((rows, 4), rows, np.float32) for rows in range(1, 9)] * 50
        for batch, (found,) in zip(batches, pool.map(lambda batch: session.run({"x": batch}), batches), strict=True):
            np.testing.assert_array_equal(found, 2 * batch + 1)


def test_shapes_that_come_anew_spoil_no_record_and_no_record_spoils_them(backend: Find, tmp_path: Path) -> None:
    """Allocations, waits and loading in one thread while another one records."""
    (tmp_path / "model.onnx").write_bytes(encoder(2, 64, 4, 500))
    used = backend(ALL[0])
    with closing(used.load(tmp_path, 1)) as session, ThreadPoolExecutor(3) as pool:
        recorded = [pool.submit(session.run, tokens(rows, 8)) for rows in range(1, 33) for _ in range(N_SEEN + 1)]
        fresh = [pool.submit(session.run, tokens(2, length)) for length in range(9, 100)]
        for _ in range(3):
            used.load(tmp_path, 1).close()
        shapes = [one.result()[0].shape for one in recorded + fresh]
    assert len(shapes) == len(recorded) + len(fresh)


def test_a_batch_that_does_not_fit_fails_alone(backend: Find, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(encoder(1, 64, 4, 500))
    used = backend(ALL[0])
    (card, *_) = find_cards().found
    length = int((card.memory_bytes / 16) ** 0.5)  # scores of one row, four heads: as much as the card has
    with closing(used.load(tmp_path, 1)) as session:
        with pytest.raises(BatchError):
            session.run(tokens(2, length))
        assert session.run(tokens(2, 8))[0].shape == (2, 64)


def test_a_damaged_file_is_an_error_of_loading(backend: Find, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(affine()[:40])
    with pytest.raises(LoadError):
        backend(ALL[0]).load(tmp_path, 1)


def test_a_version_is_checked_and_measured_on_the_card(backend: Find, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(masked_mean())
    used = backend(ALL[0])
    manifest, profiles = build_version(
        tmp_path, used, Intake("masked", lengths=(1, 16), max_rows=4, effort=QUICK), lambda *_: None
    )
    assert manifest.backend == ALL[0]
    assert profiles.device.accelerator == used.accelerator is not None
