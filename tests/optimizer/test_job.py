"""Whole runs: what is published, what is reused, what is refused, what an interrupt leaves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from optimizer import job, plan
from optimizer.errors import OptimizeError, SourceError
from optimizer.job import Outcome
from optimizer.runs import Verdict
from optimizer.stages.base import Result
from optimizer.stages.export import export
from server.contract.layout import read_version
from server.contract.wants import read_wants
from tests.optimizer.bench import LINEAR, RAGGED, Bench


def test_a_python_file_becomes_a_verified_version(bench: Bench) -> None:
    bench.write(LINEAR)
    outcome = bench.run()
    assert outcome.verdict is Verdict.PUBLISHED
    files = read_version(bench.repository / "tiny", 1)
    assert [check.name for check in files.manifest.checks] == ["verify", "parity", "rows"]
    assert files.manifest.max_rows == 4
    assert files.manifest.lineage_sha256
    assert {entry.path for entry in files.manifest.files} == {"model.onnx", "lineage.jsonl"}
    assert read_wants(bench.repository / "tiny" / "model.toml").slo_s == 0.05
    assert "passed every check" in outcome.report.read_text(encoding="utf-8")
    assert bench.leftovers() == []


def test_a_ragged_model_mixes_lengths_and_keeps_its_output_names(bench: Bench) -> None:
    bench.write(RAGGED)
    manifest = bench.run().version.manifest  # type: ignore[union-attr]
    assert [spec.name for spec in manifest.outputs] == ["mean", "count"]
    assert manifest.ragged is not None
    assert (manifest.ragged.axis, manifest.ragged.shortest, manifest.ragged.longest) == ("sequence", 2, 9)
    assert manifest.ragged.pads == {"ids": 0, "mask": 0}
    assert manifest.ragged.mixes


def test_lengths_do_not_mix_where_padding_changes_answers(bench: Bench) -> None:
    text = RAGGED.replace("(self.table(ids) * weight).sum(1) / weight.sum(1)", "self.table(ids).mean(1) + 0 * weight.sum(1)")
    bench.write(text)
    outcome = bench.run()
    assert outcome.version is not None
    assert outcome.version.manifest.ragged is not None
    assert not outcome.version.manifest.ragged.mixes
    assert "only requests of equal length share a batch" in outcome.report.read_text(encoding="utf-8")


def test_a_second_run_does_nothing(bench: Bench) -> None:
    bench.write(LINEAR)
    bench.run()
    outcome = bench.run(slo_s=None)
    assert outcome.verdict is Verdict.UNCHANGED
    assert outcome.version is not None
    assert outcome.version.version == 1
    assert bench.recorder.done == []
    assert bench.live == [1]


def test_a_new_objective_alone_changes_only_model_toml(bench: Bench) -> None:
    bench.write(LINEAR)
    bench.run()
    assert bench.run(slo_s=0.07).verdict is Verdict.UNCHANGED
    assert read_wants(bench.repository / "tiny" / "model.toml").slo_s == 0.07
    assert bench.live == [1]


def test_what_people_write_into_model_toml_meanwhile_is_kept(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.write(LINEAR)
    bench.run()
    path = bench.repository / "tiny" / "model.toml"
    filled = job.assemble

    def edits(*args: Any) -> Any:
        path.write_text('slo = "30ms"\n[[classes]]\nname = "now"\n[[classes]]\nname = "batch"\nslo = "2s"\n')
        return filled(*args)

    monkeypatch.setattr(job, "assemble", edits)
    bench.write(LINEAR + "\n# another\n")
    bench.run(force=True, slo_s=None)
    assert read_wants(path).slo_s == 0.03
    bench.run(force=True, slo_s=0.07)
    assert [(one.name, one.slo_s) for one in read_wants(path).classes.all] == [("now", 0.07), ("batch", 2.0)]


def test_an_objective_given_by_hand_is_kept(bench: Bench) -> None:
    bench.write(LINEAR)
    bench.run()
    toml = bench.repository / "tiny" / "model.toml"
    toml.write_text('# mine\nslo = "50ms"\n', encoding="utf-8")
    bench.run(force=True)
    assert toml.read_text(encoding="utf-8").startswith("# mine")
    assert bench.live == [1, 2]


@pytest.mark.parametrize(
    "damage", [lambda folder: (folder / "model.onnx").write_bytes(b""), lambda folder: (folder / "profile.json").unlink()]
)
def test_a_damaged_version_does_not_count_as_done(damage: Callable[[Path], object], bench: Bench) -> None:
    bench.write(LINEAR)
    bench.run()
    damage(bench.repository / "tiny" / "1")
    assert bench.run().verdict is Verdict.PUBLISHED
    assert bench.ran == []
    assert bench.live == [1, 2]


def test_a_comment_reruns_what_reads_the_source_only(bench: Bench) -> None:
    bench.write(LINEAR)
    bench.run()
    bench.write("# a comment\n" + LINEAR)
    assert bench.run().verdict is Verdict.PUBLISHED
    assert bench.ran == ["build", "export", "score"]


def test_a_changed_gate_reruns_that_gate_only(bench: Bench) -> None:
    bench.write(LINEAR)
    bench.run()
    bench.run(max_loss=1.0)
    assert bench.ran == ["score"]


def test_a_changed_helper_reruns_everything_that_depends_on_it(bench: Bench) -> None:
    bench.write("SIZE = 2\n", "helper.py")
    bench.write("import helper\n" + LINEAR.replace("Linear(3, 2)", "Linear(3, helper.SIZE)"))
    bench.run()
    bench.write("SIZE = 2 + 3\n", "helper.py")
    outcome = bench.run()
    assert outcome.version is not None
    assert outcome.version.manifest.outputs[0].shape == ("batch", 5)
    assert bench.ran == ["build", "export", "verify", "parity", "text", "score", "intake"]


def test_a_deleted_artifact_is_rebuilt_alone(bench: Bench) -> None:
    bench.write(LINEAR)
    bench.run()
    parity = next(done for done in bench.recorder.done if done.stage.name == "parity")
    assert parity.artifact is not None
    (parity.artifact.folder / "result.json").write_text("{}", encoding="utf-8")
    bench.run(force=True)
    assert bench.ran == ["parity"]


def _reason(outcome: Outcome) -> str:
    assert outcome.execution is not None
    assert outcome.execution.rejection is not None
    return outcome.execution.rejection.result.note


def _wrong_export(opened: Any, inputs: Any, out: Path, progress: Any) -> Result:
    result = export(opened, inputs, out, progress)
    model = onnx.load(out / "model.onnx")
    bias = next(i for i in model.graph.initializer if list(i.dims) == [2])
    bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + np.float32(7), bias.name))
    onnx.save(model, out / "model.onnx")
    return result


def test_a_wrong_export_is_refused_with_where_and_how_much(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.write(LINEAR)
    bench.run()
    before = sorted((p, p.stat().st_mtime_ns) for p in bench.repository.rglob("*") if p.is_file())
    monkeypatch.setattr(plan, "export", _wrong_export)
    bench.write(LINEAR + "# changed\n")
    outcome = bench.run()
    assert outcome.verdict is Verdict.REJECTED
    for part in ("by 7", "output 'y', batch of", "times the tolerance"):
        assert part in _reason(outcome)
    page = outcome.report.read_text(encoding="utf-8")
    assert "the parity stage rejected it" in page
    assert "7.0e+00" in page
    assert sorted((p, p.stat().st_mtime_ns) for p in bench.repository.rglob("*") if p.is_file()) == before
    assert bench.run().verdict is Verdict.REJECTED
    assert bench.ran == ["parity"], "a verdict against a model is not cached, its healthy inputs are"


def test_a_lower_score_is_refused(bench: Bench) -> None:
    score = "\n_calls = []\ndef score(predict):\n    _calls.append(1)\n    return 1.0 if len(_calls) == 1 else 0.99\n"
    bench.write(LINEAR + score)
    outcome = bench.run()
    assert outcome.verdict is Verdict.REJECTED
    assert _reason(outcome) == "0.9900, PyTorch 1.0000: a loss of 1.00 points (allowed: 0.5)"
    assert not (bench.repository / "tiny").exists()


def test_a_score_sees_batches_of_any_size(bench: Bench) -> None:
    score = '\ndef score(predict):\n    return float(len(predict({"x": np.zeros((11, 3), np.float32)})["y"])) / 11\n'
    bench.write(LINEAR + score)
    outcome = bench.run()
    assert outcome.version is not None
    assert "score" in [check.name for check in outcome.version.manifest.checks]


def test_nan_is_refused(bench: Bench) -> None:
    bench.write(LINEAR.replace("self.layer(x)", "self.layer(x) * float('nan')"))
    outcome = bench.run()
    assert outcome.verdict is Verdict.REJECTED
    assert "answers NaN in output 'y'" in outcome.report.read_text(encoding="utf-8").replace("&#39;", "'")


def test_a_module_that_cannot_be_exported_is_refused_with_the_reason(bench: Bench) -> None:
    bench.write(LINEAR.replace("self.layer(x)", "self.layer(x) if float(x.sum()) > 0 else self.layer(-x)"))
    outcome = bench.run()
    assert outcome.verdict is Verdict.REJECTED
    assert "torch.onnx cannot export the module" in _reason(outcome)
    assert (outcome.report.parent / "tool.log").stat().st_size > 0


@pytest.mark.parametrize("name", ["relu", "layer", "linear", "add"])
def test_an_output_may_be_named_like_a_value_inside(bench: Bench, name: str) -> None:
    text = LINEAR.replace('OUTPUTS = ["y"]', f'OUTPUTS = ["{name}"]')
    bench.write(text.replace("self.layer(x)", "torch.relu(self.layer(torch.relu(x + 1))) + 1"))
    outcome = bench.run()
    assert outcome.version is not None, outcome.execution
    assert outcome.version.manifest.outputs[0].name == name


@pytest.mark.parametrize("place", ["optimizer.job.write_report", "optimizer.runs.publish"])
def test_an_interrupt_publishes_nothing_and_the_next_run_goes_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    bench.write(LINEAR)
    with monkeypatch.context() as patch:
        patch.setattr(place, interrupt)
        with pytest.raises(KeyboardInterrupt):
            bench.run()
    assert bench.live == []
    assert bench.leftovers() == []
    assert bench.run().verdict is Verdict.PUBLISHED
    assert bench.ran == []


def test_an_interrupted_stage_leaves_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: object, **named: object) -> Result:
        raise KeyboardInterrupt

    bench.write(LINEAR)
    with monkeypatch.context() as patch:
        patch.setattr(plan, "parity", interrupt)
        with pytest.raises(KeyboardInterrupt):
            bench.run()
    assert not bench.repository.exists()
    assert list((bench.cache / ".staging").iterdir()) == []
    bench.run()
    assert bench.ran == ["parity", "text", "score", "intake"]


def test_a_new_model_needs_an_objective(bench: Bench) -> None:
    bench.write(LINEAR)
    with pytest.raises(OptimizeError, match="--slo 20ms"):
        bench.run(slo_s=None)


def test_a_missing_source_is_named(bench: Bench) -> None:
    with pytest.raises(OptimizeError, match=r"model\.py: no such file"):
        bench.run()


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (("def build():", "def make():"), r"model\.py: build\(\) is missing; define"),
        (("def samples():", "def examples():"), r"model\.py: samples\(\) is missing; define"),
        (("return Net().eval()", "return 5"), r"build\(\) returned int; return a torch.nn.Module"),
        (("return Net().eval()", "return Net().train()"), r"training mode; return module.eval\(\)"),
        (("return Net().eval()", "raise RuntimeError('no weights')"), r"build\(\) raised RuntimeError at line 18: no weights"),
        (("import numpy as np", "import no_such_thing as np"), "importing it raised ModuleNotFoundError at line 2"),
        (("def build():", "def build(:"), "line 17: not valid Python"),
        (("MAX_ROWS = 4", "MAX_ROW = 4"), "unknown setting MAX_ROW; the settings are AXES"),
        (("MAX_ROWS = 4", "MAX_ROWS = 'four'"), "MAX_ROWS must be a positive number of rows"),
        (('OUTPUTS = ["y"]', "OUTPUTS = 'y'"), "OUTPUTS must list distinct names"),
        (('OUTPUTS = ["y"]', 'OUTPUTS = ["y", "z"]'), "OUTPUTS names 2 outputs, forward returns 1"),
        (('OUTPUTS = ["y"]', 'OUTPUTS = ["x"]'), "'x' is an input and an output"),
        (("MAX_ROWS = 4", "NAME = str(4)"), "NAME must be written as a plain text"),
        (("MAX_ROWS = 4", "LENGTHS = (1, 4)"), "LENGTHS without AXES"),
        (("MAX_ROWS = 4", "PADS = {'x': 0}"), "PADS names 'x', which has no free axis"),
        (("MAX_ROWS = 4", "AXES = {'x': {0: 'rows'}}"), "axis 0 is always the batch"),
        (('[{"x"', '[{"z"'), r"samples\(\) gives \['z'\], forward takes \['x'\]"),
        (("return self.layer(x)", "return [1, 2]"), "forward returns list; return a tensor"),
        (("return self.layer(x)", "return self.layer(x[:, :2])"), r"the module, on x \[1, 3\], raised RuntimeError at line 15"),
        (("for n in range(3)", "for n in range(0)"), r"samples\(\) must return a non-empty list"),
    ],
)
def test_a_bad_file_gets_one_clear_error(bench: Bench, change: tuple[str, str], wanted: str) -> None:
    assert change[0] in LINEAR
    bench.write(LINEAR.replace(*change))
    with pytest.raises(SourceError, match=wanted):
        bench.run()
    assert not bench.repository.exists()


@pytest.mark.parametrize("value", ["'good'", "float('nan')", "None", "True"])
def test_a_score_must_be_a_number(bench: Bench, value: str) -> None:
    bench.write(LINEAR + f"\ndef score(predict):\n    return {value}\n")
    with pytest.raises(SourceError, match=r"score\(\) returned .*; return a finite number"):
        bench.run()
