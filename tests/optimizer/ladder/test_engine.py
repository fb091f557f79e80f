"""Engines as candidates: built for the sizes that the model takes, published with their card, served by the fallback elsewhere."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from optimizer.display import print_outcome
from optimizer.errors import StageFailed
from optimizer.job import LadderWish
from optimizer.ladder.engine import EngineTask, built_for_of, knee_of, rates_by_rows
from optimizer.ladder.here import Here
from optimizer.ladder.subject import Known, Subject
from optimizer.options import Options
from optimizer.stages.base import Result
from optimizer.tensorrt.build import Products
from server.backends.base import Backend, Backends, Session
from server.backends.nvidia import Cards
from server.backends.onnx_runtime import OnnxRuntimeBackend
from server.contract.accelerator import BuiltFor
from server.contract.layout import read_version
from server.contract.manifest import BUILT_SCHEMA
from server.intake.inspect import read_signature
from server.intake.measure import Effort
from server.intake.samples import made_up_samples
from tests import models
from tests.optimizer.ladder.fake_engines import CARD, Engines, Meter, OtherCard, build
from tests.optimizer.ladder.test_climb import Ladder

QUICK = Effort(0.0, 1, 1)


class NoCard(Engines):
    """It fell off the bus."""

    accelerator = None


class Broken(Meter):
    """The library that should say how many rows are worth it does not take the file."""

    model_file = "other.onnx"

    def load(self, folder: Path, threads: int) -> Session:
        return OnnxRuntimeBackend().load(folder, threads)


def task(folder: Path, backend: Backend, meter: Backend | None) -> EngineTask:
    model = folder / "plain" / "model.onnx"
    model.parent.mkdir()
    model.write_bytes(models.affine())
    options = Options(max_rows=6, effort=QUICK)
    subject = Subject("tiny", model.parent, "", OnnxRuntimeBackend(), None, None, "", frozenset(), options)
    return EngineTask(subject, model, backend, Products.TF32, build, meter, folder / "timings")


def run(task: EngineTask, folder: Path) -> Result:
    out = folder / "task" / "out"
    out.mkdir(parents=True)
    return task(out, lambda *_: None)


def test_without_another_library_on_the_card_the_largest_batch_is_tuned_for(tmp_path: Path) -> None:
    result = run(task(tmp_path, Engines(), None), tmp_path)
    plan = json.loads((tmp_path / "task" / "out" / "model.plan").read_text())
    assert [[size["x"][0] for size in profile] for profile in plan["bounds"]] == [[1, 1, 1], [2, 6, 6]]
    assert result.note.startswith("engine of 0.00 MB for Fake H100, 2 profiles, tuned for 6 rows (the largest batch: no other ")
    assert built_for_of(result) == BuiltFor(CARD, "tensorrt 11.4.0.106"), "the name that the server will compare with"
    assert (tmp_path / "timings").read_text() == "timed"


def test_the_rows_to_tune_for_are_measured_on_the_card(tmp_path: Path) -> None:
    result = run(task(tmp_path, Engines(), Meter()), tmp_path)
    assert result.data["knee"] in (1, 2, 4, 6)
    assert "95% of the best rate by onnxruntime-cuda-tf32" in result.note


def test_a_file_that_cannot_be_measured_is_tuned_for_the_largest_batch(tmp_path: Path) -> None:
    result = run(task(tmp_path, Engines(), Broken()), tmp_path)
    assert result.data["knee"] == 6
    assert "tuned for 6 rows (the largest batch: onnxruntime-cuda-tf32 cannot measure the file: " in result.note


def test_a_card_that_is_gone_is_said(tmp_path: Path) -> None:
    with pytest.raises(StageFailed, match=r"the card is gone: .* look at `ferry doctor`"):
        run(task(tmp_path, NoCard(), None), tmp_path)


def test_the_knee_is_the_fewest_rows_that_are_nearly_best() -> None:
    assert knee_of({1: 10.0, 2: 19.0, 4: 37.9, 8: 40.0, 16: 38.1}) == 8
    assert knee_of({1: 10.0, 2: 9.0}) == 1


def test_rates_are_of_doubling_batches(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(models.affine())
    session = OnnxRuntimeBackend().load(tmp_path, 1)
    signature = read_signature(session.inputs, session.outputs)
    rates = rates_by_rows(session, Known(signature, made_up_samples(signature, 0), None, 5), QUICK)
    session.close()
    assert list(rates) == [1, 2, 4, 5]
    assert all(rate > 0 for rate in rates.values())


def on_a_card(backend: Backend) -> Here:
    usable: dict[str, Backend] = {"onnxruntime": OnnxRuntimeBackend(), "tensorrt": backend}
    return Here(Backends(usable, {}), Cards(()), build)


def test_an_engine_wins_is_published_for_its_card_and_falls_back_elsewhere(tmp_path: Path) -> None:
    ladder = Ladder(tmp_path / "own")
    ladder.prepare()
    engine = '[[candidates]]\nname = "{0}"\nsteps = ["steps.py:light"]\nbackend = "tensorrt"\n{1}'
    ladder.recipe(more=engine.format("engine", "") + engine.format("exact", 'products = "f32"'))
    ladder.here = on_a_card(Engines())
    outcome = ladder.run()
    assert ladder.verdicts == {"engine": "", "exact": "STEPS: TensorRT cannot build an engine: no such\nproducts"}

    files = read_version(ladder.repository / "tiny", 1)
    manifest = files.manifest
    assert (manifest.backend, manifest.fallback, manifest.schema) == ("tensorrt", "onnxruntime", BUILT_SCHEMA)
    assert manifest.built_for == BuiltFor(CARD, "tensorrt 11.4.0.106")
    assert {"model.onnx", "model.plan"} <= {entry.path for entry in manifest.files}
    assert files.profiles is not None
    assert files.profiles.device.accelerator == CARD
    assert files.fallback_profiles is not None
    assert files.fallback_profiles.device.accelerator is None
    lines = [json.loads(line)["stage"] for line in (files.folder / "lineage.jsonl").read_text().splitlines()]
    assert {"engine of engine", "answers of engine", "answers of engine by onnxruntime"} <= set(lines)
    assert (ladder.cache / "tensorrt.timings").read_text() == "timed"
    assert "tuned for 4 rows" in outcome.report.read_text(encoding="utf-8")

    assert on_a_card(Engines()).backends.pick(files).instead is None
    picked = on_a_card(OtherCard()).backends.pick(files)
    assert picked.backend.name == "onnxruntime"
    assert "it was built for Fake H100 (compute capability 9.0), the card here is Fake H200" in (picked.instead or "")
    picked.backend.load(picked.files.folder, 1).close()
    mine, other = (LadderWish(on_a_card(engines)).config() for engines in (Engines(), OtherCard()))
    assert mine != other, "another card: the run is another one, and builds again"


def test_a_machine_without_a_card_says_in_one_line_why_none_was_tried(tmp_path: Path) -> None:
    ladder = Ladder(tmp_path / "own")
    ladder.prepare()
    ladder.recipe()
    lacking = {name: "install it" for name in ("openvino-bf16", "onnxruntime-cuda-f32", "onnxruntime-cuda-tf32", "tensorrt")}
    plain: dict[str, Backend] = {"onnxruntime": OnnxRuntimeBackend()}
    ladder.here = Here(Backends(plain, lacking), Cards((), "the NVIDIA driver has no card"))
    outcome = ladder.run()
    assert all("on the card" not in name and "TensorRT" not in name for name in ladder.verdicts)
    said = "No candidate for an NVIDIA card was tried: the NVIDIA driver has no card"
    assert outcome.candidates is not None
    assert outcome.candidates.left_out == (said,)
    assert outcome.report.read_text(encoding="utf-8").count(said) == 1
    terminal = Console(file=io.StringIO(), width=200)
    print_outcome(terminal, outcome)
    assert isinstance(terminal.file, io.StringIO)
    assert f"  {said}\n" in terminal.file.getvalue()
