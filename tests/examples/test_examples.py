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
import tritonclient.grpc as v2_grpc
import tritonclient.http as v2

from loadtests.tensors import Array
from optimizer.job import Request, optimize
from optimizer.options import Options
from optimizer.runs import Verdict
from server.backends.onnx_runtime import OnnxRuntimeBackend
from server.intake.measure import Effort
from tests.child_server import ChildServer
from tests.optimizer.bench import Recorder

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
QUICK = Effort(cell_s=0.02, n_least=1, n_most=20)
SLO_S = 60.0
"""Right answers are the question here, not fast ones; the machine may be busy."""

N_CLIENTS = 64
MAX_ROWS = {"digits": None, "minilm": 4}
"""None: the example's own. Of minilm's 32 one batch of the longest sentences takes seconds, and each size has to be measured."""


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
    for name, max_rows in MAX_ROWS.items():
        options = Options(effort=QUICK, max_rows=max_rows)
        request = Request(EXAMPLES / name / "model.py", folder / "models", folder / "cache", SLO_S, "test", options=options)
        assert optimize(request, OnnxRuntimeBackend(), Recorder()).verdict is Verdict.PUBLISHED
    return folder / "models"


@pytest.fixture(scope="module")
def served(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChildServer]:
    with ChildServer(repository, tmp_path_factory.mktemp("log") / "log") as server:
        yield server


@pytest.fixture(scope="module")
def client(served: ChildServer) -> Iterator[Any]:
    connected = v2.InferenceServerClient(f"127.0.0.1:{served.port}", concurrency=N_CLIENTS)
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


def text_of(kind: Any, texts: list[str]) -> list[Any]:
    """The input of a request in text, of tritonclient's http or grpc."""
    tensor = kind.InferInput("text", [len(texts), 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[text] for text in texts], dtype=object))
    return [tensor]


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


def test_minilm_answers_a_sentence_as_it_answers_its_token_ids(client: Any, served: ChildServer) -> None:
    minilm = load("minilm")
    sentences = ["A ferry leaves when it is full, or when it is time.", "", minilm.sentences()[17]]
    with v2_grpc.InferenceServerClient(f"127.0.0.1:{served.grpc_port}") as over_grpc:
        for sentence in sentences:  # alone: to the last bit
            wanted = client.infer("minilm", inputs_of(minilm.encode([sentence])[0], True)).as_numpy("sentence_embedding")
            for kind, asked in ((v2, client), (v2_grpc, over_grpc)):
                found = asked.infer("minilm", text_of(kind, [sentence])).as_numpy("sentence_embedding")
                assert np.array_equal(found, wanted)


def test_sixty_four_clients_of_text_and_of_token_ids_mixed_get_pytorchs_answers(client: Any) -> None:
    minilm = load("minilm")
    network = minilm.build()
    sentences = minilm.sentences()[: 2 * N_CLIENTS]
    rows = minilm.encode(sentences)
    pending = [
        client.async_infer("minilm", text_of(v2, [sentence]) if n % 2 else inputs_of(row, True), parameters={"truncate": True})
        for n, (sentence, row) in enumerate(zip(sentences, rows, strict=True))
    ]
    for row, answer in zip(rows, pending, strict=True):
        np.testing.assert_allclose(answer.get_result().as_numpy("sentence_embedding"), answer_of(network, row), atol=1e-4)


def test_the_openai_client_embeds_sentences_as_pytorch_does(served: ChildServer) -> None:
    openai = pytest.importorskip("openai")
    minilm = load("minilm")
    network = minilm.build()
    sentences = minilm.sentences()[:20]
    rows = minilm.encode(sentences)
    with openai.OpenAI(base_url=f"http://127.0.0.1:{served.port}/v1", api_key="none") as asked:
        reply = asked.embeddings.create(model="minilm", input=sentences, extra_body={"truncate": True})
    assert reply.usage.total_tokens == sum(row["input_ids"].shape[1] for row in rows)
    for row, entry in zip(rows, reply.data, strict=True):
        np.testing.assert_allclose(entry.embedding, answer_of(network, row)[0], atol=1e-4)
