"""TensorRT on a real card: an engine is built, serves the shapes that it was built for, and says what is wrong with others."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

pytest.importorskip("onnx")

from optimizer.tensorrt.bounds import bounds_of
from optimizer.tensorrt.build import EngineWish, Products, build_engine
from server.backends.base import Backend, BatchError, LoadError
from server.backends.card_slots import N_SEEN
from server.backends.onnx_declaration import declared
from server.backends.onnx_runtime import OnnxRuntimeBackend
from server.contract.manifest import Ragged
from tests.gpu.shapes import encoder
from tests.gpu.test_onnx_cuda import cosine, tokens

pytestmark = pytest.mark.gpu

Find = Callable[[str], Backend]


def built(folder: Path, products: Products = Products.F32) -> None:
    """A small encoder for 1 to 4 rows of 1 to 16 tokens."""
    model = folder / "model.onnx"
    model.write_bytes(encoder(2, 64, 4, 500))
    inputs, _ = declared(model)
    wish = EngineWish(bounds_of(inputs, Ragged("length", 1, 16, {}, True), 4, 4), products, effort=0)
    build_engine(model, folder / "model.plan", wish, folder / "timings")


@pytest.mark.parametrize(("products", "least"), [(Products.F32, 1 - 1e-5), (Products.TF32, 0.999)])
def test_answers_are_the_processors_launched_and_recorded(
    products: Products, least: float, backend: Find, tmp_path: Path
) -> None:
    used = backend("tensorrt")
    built(tmp_path, products)
    plain = OnnxRuntimeBackend().load(tmp_path, 1)
    with closing(used.load(tmp_path, 1)) as session:
        for rows, length in [(1, 8), (4, 16), (3, 5)] * (N_SEEN + 2):
            batch = tokens(rows, length)
            assert cosine(session.run(batch)[0], plain.run(batch)[0]) > least


def test_a_size_that_it_was_not_built_for_fails_alone(backend: Find, tmp_path: Path) -> None:
    used = backend("tensorrt")
    built(tmp_path)
    with closing(used.load(tmp_path, 1)) as session:
        with pytest.raises(BatchError, match="not built for"):
            session.run(tokens(5, 8))
        assert session.run(tokens(4, 8))[0].shape == (4, 64)


def test_a_truncated_engine_is_named(backend: Find, tmp_path: Path) -> None:
    used = backend("tensorrt")
    built(tmp_path)
    plan = tmp_path / "model.plan"
    plan.write_bytes(plan.read_bytes()[:-100])
    with pytest.raises(LoadError, match=r"model\.plan cannot be loaded"):
        used.load(tmp_path, 1)
