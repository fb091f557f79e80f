"""What the build stage records is what a session is asked: a right export agrees, a wrong one does not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import onnx
import pytest

from optimizer.checks.agreement import Agreement
from optimizer.errors import StageFailed
from optimizer.ladder.answers import compare_answers
from optimizer.ladder.gates import Gates
from optimizer.ladder.reference import cases
from optimizer.ladder.subject import Known
from optimizer.options import Options
from optimizer.sources.opened import Opened
from optimizer.sources.python_file import PythonFile
from optimizer.stages import build as build_stage
from optimizer.stages.base import Result
from optimizer.stages.build import build, evenly
from optimizer.stages.files import RECORDED, read_arrays
from server.backends.base import Session
from server.backends.onnx_runtime import OnnxRuntimeBackend
from server.intake.inspect import read_signature
from tests.optimizer.bench import LINEAR, RAGGED, Bench


def silent(_what: str, _done: int, _of: int) -> None:
    pass


def folder_of(bench: Bench, stage: str) -> Path:
    done = next(done for done in bench.recorder.done if done.stage.name == stage)
    assert done.artifact is not None
    return done.artifact.folder


@contextmanager
def candidate(folder: Path) -> Iterator[Session]:
    with closing(OnnxRuntimeBackend().load(folder, threads=1)) as session:
        yield session


@pytest.fixture(scope="module")
def ragged(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    bench = Bench(tmp_path_factory.mktemp("ragged"))
    bench.write(RAGGED)
    bench.run()
    return bench


def build_alone(bench: Bench, text: str) -> Path:
    """The build stage's folder, without what comes after it."""
    bench.write(text)
    out = bench.folder / "built"
    out.mkdir()
    with closing(PythonFile(bench.source)) as source:
        build(Opened(source, Options()), {}, out, silent).write(out)
    return out


def judged(session: Session, built: Path) -> Agreement:
    """As the ladder judges a candidate by what was recorded. With a record no other inputs are asked."""
    none: Any = None
    known = Known(read_signature(session.inputs, session.outputs), none, None, 3)
    found = compare_answers(session, cases(built, known, session))
    assert isinstance(found, Agreement)
    return found


def test_all_samples_and_edges_are_recorded_and_the_export_agrees(ragged: Bench) -> None:
    built = folder_of(ragged, "build")
    assert sorted(read_arrays(built / RECORDED)) == ["0", "1", "2"]
    edges = [(edge["name"], edge["rows"], edge["length"]) for edge in Result.read(built).data["edges"]]
    assert edges[:4] == [
        ("the shortest input", 1, 2), ("the shortest input", 3, 2), ("the longest input", 1, 9), ("the longest input", 3, 9),
    ]  # fmt: skip
    assert [name for name, _, _ in edges[4:]] == ["zeros", "ids at their least", "ids at their greatest"]
    with candidate(folder_of(ragged, "export")) as session:
        found = judged(session, built)
    assert Gates().answers(found, has_score=False) is None
    assert Gates().edges(found) is None
    assert [one.place for one in found.edges] == [
        "the shortest input, 1 row of length 2", "the shortest input, 3 rows of length 2",
        "the longest input, 1 row of length 9", "the longest input, 3 rows of length 9", "zeros, 1 row of length 5",
        "ids at their least, 1 row of length 5", "ids at their greatest, 1 row of length 5",
    ]  # fmt: skip
    assert found.n_samples == 3
    assert {piece.name for piece in found.slices if piece.by == "length"} == {"2", "5 to 8", "9 to 16"}


def test_a_wrong_candidate_is_found_out(ragged: Bench, tmp_path: Path) -> None:
    model = onnx.load(folder_of(ragged, "export") / "model.onnx")
    table = next(one for one in model.graph.initializer if list(one.dims) == [11, 4])
    values = onnx.numpy_helper.to_array(table)[::-1].copy()
    table.CopyFrom(onnx.numpy_helper.from_array(values, table.name))
    onnx.save(model, tmp_path / "model.onnx")
    with candidate(tmp_path) as session:
        failed = Gates().answers(judged(session, folder_of(ragged, "build")), has_score=False)
    assert failed is not None
    assert failed.reason.startswith("mean cosine ")
    assert "of output 'mean', wanted is 0.999" in failed.reason


def test_the_choice_of_samples_is_bounded_and_even(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    assert evenly(3, 256) == [0, 1, 2]
    assert evenly(1, 256) == [0]
    assert evenly(1001, 5) == [0, 250, 500, 750, 1000]
    assert len(evenly(1000, 256)) == 256
    monkeypatch.setattr(build_stage, "MOST_RECORDED", 2)
    assert sorted(read_arrays(build_alone(bench, LINEAR) / RECORDED)) == ["0", "2"]


def test_edges_that_pytorch_does_not_answer_are_not_asked(bench: Bench) -> None:
    text = LINEAR.replace("return self.layer(x)", "torch._assert(x[0, 0] > 0, 'too small')\n        return self.layer(x)")
    data = Result.read(build_alone(bench, text)).data
    assert [one["name"] for one in data["unanswered_edges"]] == ["zeros", "numbers at their least"]
    assert "too small" in data["unanswered_edges"][0]["why"]
    assert [one["name"] for one in data["edges"]] == ["the largest batch", "numbers at their greatest"]


def test_a_sample_that_pytorch_answers_with_nan_is_refused_wherever_it_is(bench: Bench) -> None:
    text = LINEAR.replace("range(3)", "[*range(20), -1]").replace("self.layer(x)", "self.layer(x) + torch.sqrt(x[:, 2:])")
    with pytest.raises(StageFailed, match="answers NaN in output 'y'"):
        build_alone(bench, text)
