"""What a recipe makes is kept until something it was made of changes; what fails says why, and nobody's folders."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from loadtests.optimizers import making
from loadtests.optimizers.making import Made, made_values, make, without_places
from loadtests.optimizers.tool import Recipe, Steps, Tool, Work

COPY = "import pathlib,sys;pathlib.Path('model.onnx').write_bytes(pathlib.Path(sys.argv[1]).read_bytes())"
COUNT = "import pathlib,sys;open(sys.argv[1],'a').write('x')"


def made(tmp_path: Path, *commands: Sequence[str], requirements: tuple[str, ...] = ("swift==1",)) -> Made:
    plain = tmp_path / "plain.onnx"
    if not plain.exists():
        plain.write_text("plain")
    recipe = Recipe("fast", "says", ("digits",), lambda work: Steps(commands, "model.onnx", {"config.json": {"depth": 1}}))
    tool = Tool("swift", "Swift", "swift", requirements, (recipe,), {"SWIFT": "1"})
    return make(tool, recipe, Work("digits", plain, None, None, Path(sys.executable)), tmp_path / "made")


def counting(tmp_path: Path) -> list[list[str]]:
    copy = [sys.executable, "-c", COPY, str(tmp_path / "plain.onnx")]
    return [[sys.executable, "-c", COUNT, str(tmp_path / "runs")], copy]


def test_a_result_is_kept_until_what_it_was_made_of_changes(tmp_path: Path) -> None:
    commands = counting(tmp_path)
    one = made(tmp_path, *commands)
    assert one.file is not None
    assert one.file.read_text() == "plain"
    assert (one.key, one.reason) == ("swift fast", None)
    assert made(tmp_path, *commands) == one
    assert (tmp_path / "runs").read_text() == "x"
    (tmp_path / "plain.onnx").write_text("another")
    again = made(tmp_path, *commands)
    assert again.file is not None
    assert again.file.read_text() == "another"
    made(tmp_path, *commands, requirements=("swift==2",))
    assert (tmp_path / "runs").read_text() == "xxx"


def test_a_damaged_stamp_counts_as_none(tmp_path: Path) -> None:
    commands = counting(tmp_path)
    made(tmp_path, *commands)
    (tmp_path / "made" / "made.json").write_text("{")
    made(tmp_path, *commands)
    assert (tmp_path / "runs").read_text() == "xx"


def test_the_tool_sees_its_variables_and_files(tmp_path: Path) -> None:
    code = "import os,json;assert os.environ['SWIFT']=='1';assert json.load(open('config.json'))=={'depth':1}"
    one = made(tmp_path, [sys.executable, "-c", code], counting(tmp_path)[1])
    assert one.reason is None


def test_a_failure_is_told_without_places(tmp_path: Path) -> None:
    one = made(tmp_path, [sys.executable, "-c", f"raise SystemExit('no file {tmp_path}/deep/model.onnx here')"])
    assert (one.file, one.reason) == (None, "no file model.onnx here")
    assert made_values(one) == {"tool": "swift", "recipe": "fast", "seconds": one.seconds, "reason": one.reason}
    assert made(tmp_path, [sys.executable, "-c", "raise SystemExit(3)"]).reason == "exit status 3"


def test_a_tool_that_makes_nothing_hangs_or_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert made(tmp_path, [sys.executable, "-c", ""]).reason == "no model.onnx came out"
    assert made(tmp_path, ["/no/such/swift"]).reason == "swift cannot be run: No such file or directory"
    monkeypatch.setattr(making, "_TIMEOUT_S", 0.05)
    reason = made(tmp_path, [sys.executable, "-c", "import time; time.sleep(60)"]).reason
    assert reason is not None
    assert reason.endswith("took more than 0.05 s")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('File "/home/me/lib/x.py", line 3', 'File "x.py", line 3'),
        ("a/b stays, 3/4 too", "a/b stays, 3/4 too"),
        ("/encoder/layer.0/MatMul", "MatMul"),
    ],
)
def test_absolute_paths_lose_their_folders(text: str, told: str) -> None:
    assert without_places(text) == told
