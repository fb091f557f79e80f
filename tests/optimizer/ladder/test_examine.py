"""The first judgement ends at the first gate that fails, and says which."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optimizer.errors import SourceError, StageFailed
from optimizer.ladder.examine import Examined, ExamineTask, WeighTask
from optimizer.ladder.gates import Gate, Gates
from optimizer.ladder.subject import MaterialTask, Subject, read_facts_of, read_material
from optimizer.options import Options
from optimizer.stages.base import Result
from optimizer.stages.files import RECORDED, SAMPLES, write_arrays
from server.backends.onnx_runtime import OnnxRuntimeBackend
from server.intake.measure import Effort
from tests import models

SINGLES = [{"x": np.array([[1.0, 2.0, 3.0, n]], np.float32)} for n in range(3)]
SCORE = """
calls = []
def score(predict):
    calls.append(1)
    x = [[float(n % 5), 1.0, -1.0, 0.5] for n in range(20)]
    import numpy as np
    x = np.array(x, np.float32)
    return VALUE
"""
RIGHT = "float(np.mean(np.isclose(predict({'x': x})['y'], 2 * x + 1)))"


class Tried:
    """A plain export y = 2·x + 1 with its samples and perhaps a score, and candidates beside it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.plain = self.file("plain", models.affine())
        self.built: Path | None = None

    def file(self, name: str, data: bytes) -> Path:
        (self.root / name).mkdir()
        (self.root / name / "model.onnx").write_bytes(data)
        return self.root / name

    def build(self, score: float | None) -> None:
        self.built = self.root / "built"
        self.built.mkdir()
        settings: dict[str, Any] = {"lengths": None, "pads": {}, "max_rows": 4, "text_inputs": {}, "embedding": None}
        edges = [{"name": "zeros", "rows": 1, "length": 0, "file": "edge_0.npz"}]
        Result("", None, {"score": score, "cases": [], "settings": settings, "edges": edges}).write(self.built)
        write_arrays(self.built / SAMPLES, {str(number): single for number, single in enumerate(SINGLES)})
        write_arrays(self.built / RECORDED, {str(number): {"y": 2 * one["x"] + 1} for number, one in enumerate(SINGLES)})
        zeros = np.zeros((1, 4), np.float32)
        write_arrays(self.built / "edge_0.npz", {"in": {"x": zeros}, "out": {"y": zeros + 1}})

    def source(self, value: str) -> None:
        (self.root / "model.py").write_text(SCORE.replace("VALUE", value), encoding="utf-8")

    def subject(self) -> Subject:
        options = Options(max_rows=4, effort=Effort(0.0, 1, 1))
        source = self.root / "model.py" if self.built else None
        return Subject("tiny", self.plain, "", OnnxRuntimeBackend(), self.built, source, "", frozenset(), options)

    def examine(self, folder: Path, gates: Gates | None = None) -> Examined:
        out = self.root / f"{folder.name}-out" / "out"
        out.mkdir(parents=True)
        task = ExamineTask(self.subject(), folder / "model.onnx", OnnxRuntimeBackend(), gates or Gates())
        result = task(out, lambda *_: None)
        result.write(out)
        return Examined.from_json(Result.read(out).data["examined"])


@pytest.fixture
def tried(tmp_path: Path) -> Tried:
    return Tried(tmp_path)


def test_the_same_model_passes_and_is_looked_at(tried: Tried) -> None:
    examined = tried.examine(tried.file("same", models.affine()))
    assert examined.failed is None
    assert examined.look is not None
    assert list(examined.look) == ["1 row", "4 rows"]
    assert examined.agreement is not None
    (one,) = examined.agreement.outputs
    assert (one.cosine_mean, one.largest_absolute) == (pytest.approx(1.0), 0.0)
    assert examined.scores == ()


@pytest.mark.parametrize(
    ("data", "gate", "says"),
    [
        (b"no model", Gate.LOADS, "cannot load the model"),
        (models.two_outputs(), Gate.LOADS, "has 2 inputs and 2 outputs, the plain export has 1 and 1"),
        (models.mixes_rows(), Gate.ANSWERS, "output 'y'"),
        (models.identity("FP32"), Gate.LOADS, "has tensor x FP32 [batch, 2] where the plain export has x FP32 [batch, 4]"),
        (models.affine(-2.0), Gate.ANSWERS, "mean cosine "),
        (models.affine(4.0, 2.0), Gate.ANSWERS, "output 'y' is 2.00 times as large as the original's"),
        (models.affine(float("nan")), Gate.ANSWERS, "is not finite for "),
    ],
)
def test_the_first_gate_that_fails(tried: Tried, data: bytes, gate: Gate, says: str) -> None:
    examined = tried.examine(tried.file("other", data))
    assert examined.failed is not None
    assert examined.failed.gate is gate
    assert says in examined.failed.reason
    assert examined.look is None


def test_an_edge_that_breaks_it(tried: Tried) -> None:
    """Right for every sample, infinite for zeros: 2·x + x/x."""
    node, data = models.helper.make_node, {"two": np.float32(2.0)}
    nodes = [node("Mul", ["x", "two"], ["double"]), node("Div", ["x", "x"], ["one"]), node("Add", ["double", "one"], ["y"])]
    port = [("x", "FP32", ["batch", 4])]
    ones = models.onnx_bytes(nodes, port, [("y", "FP32", ["batch", 4])], data)
    examined = tried.examine(tried.file("edge", ones))
    assert examined.failed is not None
    assert examined.failed.gate is Gate.EDGES
    assert examined.failed.reason == "output 'y' is not finite for zeros, 1 row, where the original's is"


def test_what_a_score_does_to_its_answers_changes_no_slice(tried: Tried) -> None:
    tried.build(1.0)
    tried.source("float(predict({'x': x})['y'].__imul__(-1) is not None)")
    examined = tried.examine(tried.file("same", models.affine()))
    assert examined.failed is None
    assert examined.agreement is not None
    assert [one.same_top1 for one in examined.agreement.slices] == [1.0, 1.0]


def test_an_edge_that_is_answered_otherwise(tried: Tried) -> None:
    """Right for every sample, and the other way round for zeros: 2·x + 1 and 2·x - 1 where x is zero."""
    node, data = models.helper.make_node, {"two": np.float32(2.0), "one": np.float32(1.0), "zero": np.float32(0.0)}
    nodes = [
        node("Mul", ["x", "two"], ["double"]), node("Add", ["double", "one"], ["right"]), node("Sub", ["double", "one"], ["wrong"]),
        node("ReduceMax", ["x"], ["greatest"], axes=[1], keepdims=1), node("Equal", ["greatest", "zero"], ["is_zero"]),
        node("Where", ["is_zero", "wrong", "right"], ["y"]),
    ]  # fmt: skip
    port = [("x", "FP32", ["batch", 4])]
    examined = tried.examine(tried.file("edge", models.onnx_bytes(nodes, port, [("y", "FP32", ["batch", 4])], data)))
    assert examined.failed is not None
    assert examined.failed.gate is Gate.EDGES
    assert examined.failed.reason == "zeros, 1 row: cosine -1.00000 of output 'y', wanted is 0.9"


def test_the_requests_of_the_score_are_sliced_by_class(tried: Tried) -> None:
    """Its 20 rows are 16 whose greatest value is the first, and 4 of the second class."""
    tried.build(1.0)
    tried.source(RIGHT)
    examined = tried.examine(tried.file("same", models.affine()), Gates(max_slice_changes=1.0))
    assert examined.failed is None
    assert examined.agreement is not None
    assert [(one.by, one.name, one.n_samples, one.same_top1) for one in examined.agreement.slices] == [
        ("class", "0", 16, 1.0), ("class", "1", 4, 1.0),
    ]  # fmt: skip


def test_pytorchs_own_answers_count_where_there_are_some(tried: Tried) -> None:
    tried.build(None)
    write_arrays(tried.root / "built" / RECORDED, {"0": {"y": -2 * SINGLES[0]["x"]}})
    examined = tried.examine(tried.file("same", models.affine()))
    assert examined.failed is not None
    assert examined.failed.reason.startswith("mean cosine -0.9")


@pytest.mark.parametrize(("value", "scores"), [(RIGHT, (1.0, 1.0)), ("0.996", (0.996, 0.996))])
def test_a_score_that_is_kept_passes(tried: Tried, value: str, scores: tuple[float, ...]) -> None:
    tried.build(1.0)
    tried.source(value)
    examined = tried.examine(tried.file("same", models.affine()))
    assert (examined.failed, examined.scores) == (None, scores)


def test_a_lower_score_fails(tried: Tried) -> None:
    tried.build(1.0)
    tried.source(RIGHT)
    examined = tried.examine(tried.file("off", models.affine(2.01)))
    assert examined.failed is not None
    assert examined.failed.gate is Gate.SCORE
    assert examined.failed.reason == "0.0500, PyTorch 1.0000: a loss of 95.00 points, allowed are 0.5"


def test_a_score_that_is_not_deterministic_is_no_verdict_to_keep(tried: Tried) -> None:
    tried.build(1.0)
    tried.source("1.0 - len(calls) / 1000")
    with pytest.raises(StageFailed, match=r"^score\(\) is not deterministic: 0.999, then 0.998 for the same file"):
        tried.examine(tried.file("same", models.affine()))


def test_a_score_that_raises_says_where(tried: Tried) -> None:
    tried.build(1.0)
    tried.source("1 / 0")
    with pytest.raises(SourceError, match=r"score\(\) raised ZeroDivisionError at line 8"):
        tried.examine(tried.file("same", models.affine()))


def test_what_a_process_weighs(tried: Tried, tmp_path: Path) -> None:
    out = tmp_path / "weigh" / "out"
    out.mkdir(parents=True)
    task = WeighTask(tried.subject(), tried.plain / "model.onnx", OnnxRuntimeBackend())
    assert task(out, lambda *_: None).data["bytes"] > 10_000_000


@pytest.mark.parametrize("built", [False, True])
def test_material_is_the_samples_or_made_up(tried: Tried, tmp_path: Path, built: bool) -> None:
    if built:
        tried.build(None)
    out = tmp_path / "material"
    out.mkdir()
    result = MaterialTask(tried.subject())(out, lambda *_: None)
    result.write(out)
    material = read_material(out)
    assert len(material.calibration) == (3 if built else 8)
    assert material.calibration[0]["x"].shape == (1, 4)
    assert (material.pads, material.ragged_axis) == ({}, None)
    facts = read_facts_of(Result.read(out))
    assert facts is not None
    assert facts.operators == {"Add": 1, "Mul": 1}
