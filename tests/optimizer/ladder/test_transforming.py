"""A step of one's own is called as it should be, or told what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from optimizer.errors import OptimizeError, SourceError, StageFailed
from optimizer.ladder.candidate import Step
from optimizer.ladder.steps import find_step, known_step, missing
from optimizer.ladder.transforming import again, apply
from optimizer.stages.base import Result
from optimizer.stages.files import write_arrays
from server.contract.errors import ContractError
from tests.optimizer.ladder import own_steps

OWN = Path(str(own_steps.__file__))


@pytest.fixture
def material(tmp_path: Path) -> Path:
    folder = tmp_path / "material"
    folder.mkdir()
    Result("", None, {"pads": {"x": 0}, "ragged_axis": None, "facts": None}).write(folder)
    write_arrays(folder / "samples.npz", {"0": {"x": np.zeros((1, 4), np.float32)}})
    (tmp_path / "model.onnx").write_bytes(own_steps.heavy_model(1, 8))
    return folder


def own(text: str, folder: Path) -> Step:
    (folder / "mine.py").write_text(text, encoding="utf-8")
    return find_step("mine.py:halve", {"by": 2}, folder, "recipe.toml")


def test_a_function_gets_files_material_and_options(tmp_path: Path, material: Path) -> None:
    text = """
from optimizer.transforms.base import Made
def halve(model, output, material, options):
    output.write_bytes(model.read_bytes())
    return Made(f"{len(material.calibration)} {dict(material.pads)} {dict(options)}")
"""
    made = apply(own(text, tmp_path), tmp_path / "model.onnx", material, tmp_path / "out.onnx")
    assert made.note == "1 {'x': 0} {'by': 2}"


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        (
            "def other(): ...",
            SourceError,
            r"mine.py: halve\(\) is missing; define: def halve\(model, output, material, options\)",
        ),
        (
            "def halve(*_): return None",
            OptimizeError,
            r"mine.py:halve returned NoneType; return optimizer.transforms.base.Made",
        ),
        (
            "from optimizer.transforms.base import Made\ndef halve(*_): return Made('')",
            StageFailed,
            "mine.py:halve wrote no file",
        ),
    ],
)
def test_what_is_wrong_with_it(tmp_path: Path, material: Path, text: str, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        apply(own(text, tmp_path), tmp_path / "model.onnx", material, tmp_path / "out.onnx")


def test_a_step_is_repeated_or_it_is_said_what_changed(
    tmp_path: Path, material: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    step = find_step(f"{OWN.name}:light", {}, OWN.parent, "recipe.toml")
    model, out = tmp_path / "model.onnx", tmp_path / "out.onnx"
    arguments = (step.name, {}, str(step.file), step.digest, str(model), str(material), str(out))
    with pytest.raises(SystemExit, match="other inputs, or other versions of the tools"):
        again(*arguments, wanted="0" * 64)
    with pytest.raises(SystemExit, match=r"own_steps.py has changed since"):
        again(step.name, {}, str(step.file), "other", str(model), str(material), str(out), wanted="")
    assert capsys.readouterr().out == ""


def test_steps_of_the_catalog() -> None:
    step = known_step("fuse")
    assert (step.file, step.digest) == (None, "")
    assert "onnx" in step.tools
    assert missing(step) is None
    with pytest.raises(ContractError, match=r"^here: .*unknown option 'speed'"):
        find_step("fuse", {"speed": 2}, Path(), "here")
