"""Both examples, optimized, served by a real process and asked by an unmodified tritonclient: PyTorch's own answers come back."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import tritonclient.http as v2

from loadtests.tensors import Array
from optimizer.job import Request, Verdict, optimize
from optimizer.options import Options
from server.backends.onnx_runtime import OnnxRuntimeBackend
from server.intake.measure import Effort
from tests.child_server import ChildServer
from tests.optimizer.bench import Recorder

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
QUICK = Effort(cell_s=0.02, n_least=1, n_most=20)
SLO_S = 10.0
"""Right answers are the question here, not fast ones; the machine may be busy."""

N_CLIENTS = 64


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / name / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("examples")
    for name in ("digits", "minilm"):
        request = Request(
            EXAMPLES / name / "model.py", folder / "models", folder / "cache", SLO_S, "test", options=Options(effort=QUICK)
        )
        assert optimize(request, OnnxRuntimeBackend(), Recorder()).verdict is Verdict.PUBLISHED
    return folder / "models"


@pytest.fixture(scope="module")
def client(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with ChildServer(repository, tmp_path_factory.mktemp("log") / "log") as server:
        connected = v2.InferenceServerClient(f"127.0.0.1:{server.port}", concurrency=N_CLIENTS)
        yield connected
        connected.close()


def inputs_of(row: dict[str, Array], binary: bool) -> list[Any]:
    datatypes = {np.dtype(np.float32): "FP32", np.dtype(np.int64): "INT64"}
    inputs = []
    for name, array in row.items():
        tensor = v2.InferInput(name, list(array.shape), datatypes[array.dtype])
        tensor.set_data_from_numpy(array, binary_data=binary)
        inputs.append(tensor)
    return inputs


def answer_of(network: torch.nn.Module, row: dict[str, Array]) -> Array:
    with torch.inference_mode():
        return network(**{name: torch.from_numpy(array) for name, array in row.items()}).numpy()


def sentences_of_random_lengths(n: int) -> list[dict[str, Array]]:
    rng = np.random.default_rng(7)
    ids = [rng.integers(1000, 20_000, (1, int(rng.integers(3, 257)))) for _ in range(n)]
    return [{"input_ids": row, "attention_mask": np.ones_like(row)} for row in ids]


@pytest.mark.parametrize("binary", [False, True], ids=["json", "binary"])
def test_digits_answers_as_pytorch_does(client: Any, binary: bool) -> None:
    digits = load("digits")
    network = digits.build()
    images, labels = digits.held_out()
    right = 0
    for start in range(0, len(images), 64):
        row = {"image": images[start : start + 64]}
        outputs = [v2.InferRequestedOutput("logits", binary_data=binary)]
        found = client.infer("digits", inputs_of(row, binary), outputs=outputs).as_numpy("logits")
        np.testing.assert_allclose(found, answer_of(network, row), atol=1e-4)
        right += int((found.argmax(axis=1) == labels[start : start + 64]).sum())
    assert right / len(images) >= 0.98


@pytest.mark.parametrize("binary", [False, True], ids=["json", "binary"])
def test_sixty_four_clients_with_random_lengths_get_the_answers_they_would_get_alone(client: Any, binary: bool) -> None:
    network = load("minilm").build()
    rows = sentences_of_random_lengths(2 * N_CLIENTS)
    outputs = [v2.InferRequestedOutput("sentence_embedding", binary_data=binary)]
    pending = [client.async_infer("minilm", inputs_of(row, binary), outputs=outputs) for row in rows]
    for row, answer in zip(rows, pending, strict=True):
        found = answer.get_result().as_numpy("sentence_embedding")
        np.testing.assert_allclose(found, answer_of(network, row), atol=1e-4)
    statistics = client.get_inference_statistics("minilm")["model_stats"][0]
    assert statistics["execution_count"] < statistics["inference_count"], "some requests must have shared a batch"
