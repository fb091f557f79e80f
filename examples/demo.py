"""`make demo`: two PyTorch models are optimized, published, served and asked over HTTP; then the figures.

Exit status 0 only if every answer over HTTP is PyTorch's own, or as near to it as a candidate that the optimizer chose may be.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from examples.asking import ask
from loadtests.bench_command import as_program
from loadtests.call import get_json
from loadtests.child import HOST, Child, free_port, running
from loadtests.closed_loop import Result, drive
from loadtests.errors import LoadTestError
from loadtests.limit import InProcess, model_file
from loadtests.report import table
from loadtests.tensors import Array
from loadtests.wire import infer_request

HERE = Path(__file__).resolve().parent
CONNECTIONS = 64
TOLERANCE = 1e-4
PLAIN = "plain export"
LEAST_COSINE = 0.98
"""Of an answer with PyTorch's, where a coarser candidate than the plain export was published."""

SCORE_TOLERANCE = 0.005

Row = Mapping[str, Array]
Predict = Callable[[Row], dict[str, Array]]


@dataclass(frozen=True)
class Example:
    """One folder under examples/, the objective to serve it with, and how many requests to time. A recipe.toml in it is followed."""

    name: str
    slo: str
    n_timed: int
    rows: Callable[[ModuleType], list[Row]]

    @property
    def folder(self) -> Path:
        return HERE / self.name

    @property
    def command(self) -> list[str]:
        """Of the optimizer, without the repository."""
        recipe = self.folder / "recipe.toml"
        return [
            "optimize",
            str(self.folder / "model.py"),
            "--slo",
            self.slo,
            *(["--recipe", str(recipe)] if recipe.exists() else []),
        ]


@dataclass(frozen=True)
class Figures:
    """What came out for one example."""

    name: str
    slo: str
    n_checked: int
    published: str
    n_right: int
    worst: float
    score_torch: float
    score_http: float
    timed: Result
    n_asked_again: int
    mean_batch: float
    limit_per_s: float

    @property
    def right(self) -> bool:
        same_score = abs(self.score_torch - self.score_http) <= SCORE_TOLERANCE
        return self.n_right == self.n_checked and same_score and not self.timed.failed


def _images(module: ModuleType) -> list[Row]:
    images, _ = module.held_out()
    return [{"image": images[n : n + 1]} for n in range(len(images))]


def _sentences(module: ModuleType) -> list[Row]:
    """A thousand of the real sentences, in a fixed random order."""
    rows = module.encode(module.sentences())
    order = np.random.default_rng(0).permutation(len(rows))[:1000]
    return [rows[n] for n in order]


EXAMPLES = (Example("digits", "20ms", 20_000, _images), Example("minilm", "1s", 1_500, _sentences))


def main() -> int:
    """Run the whole way; 0 if all answers are right."""
    parser = argparse.ArgumentParser("python -m examples.demo", description=__doc__)
    parser.add_argument("--repository", type=Path, default=Path("model_repository"))
    repository: Path = parser.parse_args().repository
    repository.mkdir(exist_ok=True)
    began_at = time.perf_counter()
    for example in EXAMPLES:
        _say(f"optimize examples/{example.name}/model.py for an SLO of {example.slo}")
        command = [sys.executable, "-m", "server.cli", *example.command, "--repository", str(repository)]
        done = subprocess.run(command, check=False)
        if done.returncode:
            return done.returncode
    try:
        figures = _serve_and_ask(repository)
    except LoadTestError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    _report(figures, time.perf_counter() - began_at)
    return 0 if all(one.right for one in figures) else 1


def _serve_and_ask(repository: Path) -> list[Figures]:
    port = free_port()
    _say(f"ferry serve on port {port}")
    command = [
        sys.executable,
        "-m",
        "server.cli",
        "serve",
        "--repository",
        str(repository),
        "--port",
        str(port),
        "--grpc-port",
        "off",
    ]
    with running(command, port, ready_path="/v2/health/ready") as server:
        return [_ask(example, server, repository) for example in EXAMPLES]


def _ask(example: Example, server: Child, repository: Path) -> Figures:
    module = _load(example.folder / "model.py")
    rows = example.rows(module)
    _say(f"{example.name}: PyTorch's own answers to {len(rows)} requests")
    network = module.build()
    wanted = [_torch_predict(network)(row) for row in rows]
    _say(f"{example.name}: the same {len(rows)} over HTTP, {CONNECTIONS} at a time, each answer compared")
    requests = [infer_request(HOST, example.name, row, binary=False) for row in rows]
    answers = ask(HOST, server.port, requests, CONNECTIONS)
    published = _published(repository / example.name)
    n_right, worst = _compare(answers.found, wanted, is_coarse=published != PLAIN)
    _say(f"{example.name}: {example.n_timed} requests for the clock")
    before = _statistics(server, example.name)
    timed = drive(HOST, server.port, requests, connections=CONNECTIONS, n_requests=example.n_timed)
    after = _statistics(server, example.name)
    n_batches = after["execution_count"] - before["execution_count"]
    sweep = InProcess(model_file(repository, example.name), rows).sweep(0.4)
    return Figures(
        name=example.name,
        slo=example.slo,
        n_checked=len(rows),
        published=published,
        n_right=n_right,
        worst=worst,
        score_torch=module.score(_torch_predict(network)),
        score_http=module.score(_http_predict(server, example.name)),
        timed=timed,
        n_asked_again=answers.n_refused,
        mean_batch=(after["inference_count"] - before["inference_count"]) / max(1, n_batches),
        limit_per_s=max(sweep.rows_per_s.values()),
    )


def _compare(found: Mapping[int, Row], wanted: Sequence[Row], is_coarse: bool) -> tuple[int, float]:
    """How many answers are there and right, and the worst difference of any."""
    differences = [_difference(answer, wanted[index]) for index, answer in found.items()]
    near = [is_coarse and _cosine(answer, wanted[index]) >= LEAST_COSINE for index, answer in found.items()]
    n_right = sum(difference <= TOLERANCE or is_near for difference, is_near in zip(differences, near, strict=True))
    return n_right, max(differences, default=0.0)


def _difference(answer: Row, wanted: Row) -> float:
    return max(float(np.max(np.abs(answer[name] - array))) for name, array in wanted.items())


def _cosine(answer: Row, wanted: Row) -> float:
    """The least of any output."""
    pairs = [(answer[name].astype(np.float64).ravel(), array.astype(np.float64).ravel()) for name, array in wanted.items()]
    return min(float(mine @ theirs / (np.linalg.norm(mine) * np.linalg.norm(theirs) or 1.0)) for mine, theirs in pairs)


def _published(folder: Path) -> str:
    """Which candidate the newest version is."""
    newest = max((path for path in folder.iterdir() if path.name.isdecimal()), key=lambda path: int(path.name))
    last = json.loads((newest / "lineage.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    return str(last["config"].get("published", {}).get("name", PLAIN))


def _torch_predict(network: torch.nn.Module) -> Predict:
    @torch.inference_mode()
    def predict(inputs: Row) -> dict[str, Array]:
        output = network(**{name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in inputs.items()})
        return {_OUTPUT_OF[type(network).__name__]: output.numpy()}

    return predict


_OUTPUT_OF = {"Digits": "logits", "SentenceEmbedding": "sentence_embedding"}


def _http_predict(server: Child, model: str, rows: int = 4) -> Predict:
    """Batches cut to requests that a slow machine too can answer within the SLO; rides on the binary tensor extension."""

    def predict(inputs: Row) -> dict[str, Array]:
        starts = range(0, len(next(iter(inputs.values()))), rows)
        cuts = [{name: array[start : start + rows] for name, array in inputs.items()} for start in starts]
        requests = [infer_request(HOST, model, cut, binary=True) for cut in cuts]
        found = ask(HOST, server.port, requests, connections=1).found
        if len(found) < len(requests):
            raise LoadTestError(f"{len(requests) - len(found)} of {len(requests)} requests to {model} have no answer")
        return {name: np.concatenate([found[n][name] for n in range(len(requests))]) for name in found[0]}

    return predict


def _statistics(server: Child, model: str) -> dict[str, Any]:
    return dict(get_json(HOST, server.port, f"/v2/models/{model}/stats")["model_stats"][0])


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{path.parent.name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _report(figures: Sequence[Figures], took_s: float) -> None:
    header = (
        "model", "published", "SLO", "right answers", "worst diff", "score torch", "score HTTP", "p50 ms", "p99 ms", "req/s", "batch",
        "in-process", "share", "asked again", "refused",
    )  # fmt: skip
    lines = [
        [
            one.name, one.published, one.slo, f"{one.n_right} of {one.n_checked}", f"{one.worst:.1e}", f"{one.score_torch:.4f}",
            f"{one.score_http:.4f}", f"{one.timed.p50 * 1e3:.2f}", f"{one.timed.p99 * 1e3:.2f}",
            f"{one.timed.throughput:.0f}", f"{one.mean_batch:.1f}", f"{one.limit_per_s:.0f}/s",
            f"{one.timed.throughput / one.limit_per_s:.2f}", str(one.n_asked_again), str(one.timed.n_refused),
        ]
        for one in figures
    ]  # fmt: skip
    print(f"\n{table(header, lines)}\n")
    print(f"{CONNECTIONS} connections, JSON; the load generator shares this machine's cores with the server.")
    print(
        'asked again: answers that said "not within the SLO, come back later" while comparing; refused: the same, by the clock.'
    )
    print(
        f"right: within {TOLERANCE:g} of PyTorch's answer, or at a cosine of {LEAST_COSINE:g} at least where a coarser candidate won."
    )
    print(
        "share: requests per second ÷ the best rate of the same file in-process by ONNX Runtime, whichever library serves it."
    )
    verdict = "every answer is right" if all(one.right for one in figures) else "WRONG ANSWERS, see the table"
    print(f"\n{verdict} ({took_s:.0f} s in all)\n\nTry it:\n  make serve\n{_curl_line()}\n{_SENTENCE_LINE}")


_SENTENCE_LINE = """  curl -s localhost:8000/v1/embeddings -d '{"model":"minilm","input":"a sentence"}'   # its embedding"""


def _curl_line() -> str:
    """A held-out digit in a form to paste into a terminal."""
    images, labels = _load(HERE / "digits" / "model.py").held_out()
    tensor = {"name": "image", "shape": [1, 1, 8, 8], "datatype": "FP32", "data": np.round(images[0].ravel(), 4).tolist()}
    body = json.dumps({"inputs": [tensor]}, separators=(",", ":"))
    return f"  curl -s localhost:8000/v2/models/digits/infer -d '{body}'   # a {labels[0]}"


def _say(text: str) -> None:
    print(f"\n== {text}", flush=True)


if __name__ == "__main__":
    as_program(main)
