"""`ferry optimize` on a real card: every candidate is made, loads and answers; an engine that wins says what it was built for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("onnx")
pytest.importorskip("jinja2")

from optimizer.job import LadderWish, Request, optimize
from optimizer.ladder.here import Here
from optimizer.options import Options
from optimizer.runs import Verdict
from server.backends.base import Backend
from server.backends.catalog import find_backends
from server.backends.onnx_runtime import OnnxRuntimeBackend
from tests.gpu.shapes import encoder, residual
from tests.models import QUICK
from tests.optimizer.bench import Recorder

pytestmark = pytest.mark.gpu

CUDA = '[[candidates]]\nname = "cuda"\nbackend = "onnxruntime-cuda-f32"\n'
ENGINES = """
[[candidates]]
name = "engine"
backend = "tensorrt"
products = "f32"
[[candidates]]
name = "engine int8"
steps = [{step = "int8-static", activations = "s8", biases = "float", tables = "float"}]
backend = "tensorrt"
"""
FP16 = """
[[candidates]]
name = "engine fp16"
steps = ["fp16"]
backend = "tensorrt"
"""


def texts() -> bytes:
    return encoder(4, 512, 8, 500)


def pictures() -> bytes:
    return residual((1, 1), 16, 64, 10)


@pytest.mark.parametrize(
    ("name", "model", "candidates"),
    [("onnxruntime-cuda-f32", texts, CUDA), ("tensorrt", texts, CUDA + ENGINES), ("tensorrt", pictures, ENGINES + FP16)],
)
def test_every_candidate_is_made_and_answers(
    name: str, model: Callable[[], bytes], candidates: str, backend: Callable[[str], Backend], tmp_path: Path
) -> None:
    used = backend(name)
    source, recipe, recorder = tmp_path / "model.onnx", tmp_path / "recipe.toml", Recorder()
    source.write_bytes(model())
    recipe.write_text("[gates]\nmin_cosine = 0.98\nmin_worst_cosine = 0.95\nmin_edge_cosine = 0.5\n" + candidates)
    options = Options(lengths=(1, 32) if model is texts else None, max_rows=8, effort=QUICK)
    wish = LadderWish(Here(find_backends()), recipe)
    request = Request(source, tmp_path / "models", tmp_path / "cache", 1.0, "test", "encoder", options, False, wish)
    outcome = optimize(request, OnnxRuntimeBackend(), recorder)
    assert outcome.verdict is Verdict.PUBLISHED
    assert {one.name: one.failed.reason for one in recorder.trials if one.examined is None and one.failed} == {}
    assert outcome.version is not None
    manifest = outcome.version.manifest
    if manifest.backend == "tensorrt":
        assert manifest.built_for is not None
        assert manifest.built_for.mismatch(used.accelerator, used.runtime) is None
