"""What the build stage records is what a session is asked: a right export agrees, a wrong one does not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import onnx
import pytest

from optimizer.checks.agreement import Gates, fails
from optimizer.checks.edges import fails_at
from optimizer.checks.recorded import ask_edges, ask_samples
from optimizer.errors import StageFailed
from optimizer.options import Options
from optimizer.sources.opened import Opened
from optimizer.sources.python_file import PythonFile
from optimizer.stages import build as build_stage
from optimizer.stages.base import Result
from optimizer.stages.build import build, evenly
from optimizer.stages.files import RECORDED, SAMPLES, read_arrays, write_arrays
from server.backends.base import Session
from server.backends.onnx_runtime import OnnxRuntimeBackend
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


def test_all_samples_are_recorded_and_the_export_agrees(ragged: Bench) -> None:
    built = folder_of(ragged, "build")
    assert sorted(read_arrays(built / RECORDED)) == ["0", "1", "2"]
    with candidate(folder_of(ragged, "export")) as session:
        found = ask_samples(session, built, silent)
        edges = ask_edges(session, built, silent)
    assert found.n_samples == 3
    assert found.lead == "mean"
    assert {piece.name for piece in found.slices if piece.by == "length"} == {"2", "5 to 8", "9 to 16"}
    assert fails(found, Gates()) is None
    places = [edge.place for edge in edges]
    assert places[:4] == [
        "the shortest input, 1 row of length 2", "the shortest input, 3 rows of length 2",
        "the longest input, 1 row of length 9", "the longest input, 3 rows of length 9",
    ]  # fmt: skip
    assert [place.partition(",")[0] for place in places[4:]] == ["zeros", "ids at their least", "ids at their greatest"]
    assert fails_at(edges) is None


def test_a_wrong_candidate_is_found_out(ragged: Bench, tmp_path: Path) -> None:
    model = onnx.load(folder_of(ragged, "export") / "model.onnx")
    table = next(one for one in model.graph.initializer if list(one.dims) == [11, 4])
    values = onnx.numpy_helper.to_array(table)[::-1].copy()
    table.CopyFrom(onnx.numpy_helper.from_array(values, table.name))
    onnx.save(model, tmp_path / "model.onnx")
    with candidate(tmp_path) as session:
        found = ask_samples(session, folder_of(ragged, "build"), silent)
        edges = ask_edges(session, folder_of(ragged, "build"), silent)
    reason = fails(found, Gates())
    assert reason is not None
    assert "output 'mean': mean cosine" in reason
    assert fails_at(edges) is not None


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
    assert [one["name"] for one in data["edges"]] == ["the usual input", "the usual input", "numbers at their greatest"]


def test_a_sample_that_pytorch_answers_with_nan_is_refused_wherever_it_is(bench: Bench) -> None:
    text = LINEAR.replace("range(3)", "[*range(20), -1]").replace("self.layer(x)", "self.layer(x) + torch.sqrt(x[:, 2:])")
    with pytest.raises(StageFailed, match="answers NaN in output 'y'"):
        build_alone(bench, text)


def test_a_candidate_that_fails_or_has_other_outputs_is_refused(ragged: Bench, bench: Bench) -> None:
    other = build_alone(bench, RAGGED.replace('"mean": ', '"middle": '))
    with candidate(folder_of(ragged, "export")) as session:
        with pytest.raises(StageFailed, match=r"outputs are \['count', 'mean'\], PyTorch's are \['count', 'middle'\]"):
            ask_samples(session, other, silent)
        samples = read_arrays(other / SAMPLES)
        write_arrays(other / SAMPLES, {number: {**one, "ids": one["ids"] + 99} for number, one in samples.items()})
        with pytest.raises(StageFailed, match="fails on sample 0, where PyTorch does not"):
            ask_samples(session, other, silent)
