"""The command itself: verbs, exit statuses, messages without tracebacks."""

from __future__ import annotations

from pathlib import Path

import pytest

from server import __version__
from server.cli import main

onnx = pytest.importorskip("onnx")


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--version"])
    assert (left.value.code, capsys.readouterr().out) == (0, f"ferry {__version__}\n")


@pytest.mark.parametrize("arguments", [[], ["nosuch"], ["serve", "--nosuch"]])
def test_bad_arguments_leave_with_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    assert "usage: ferry" in capsys.readouterr().err


def test_help_lists_every_setting_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    text = capsys.readouterr().out
    assert "--max-body-bytes" in text
    assert "(default: 8000)" in text


def test_serve_names_a_bad_setting_and_a_missing_repository(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--port", "x"]) == 2
    assert "'port'" in capsys.readouterr().err
    assert main(["serve", "--repository", str(tmp_path / "nosuch")]) == 2
    assert "nosuch" in capsys.readouterr().err


@pytest.mark.parametrize("verb", [["serve", "--repository"], ["check"], ["simulate", "affine", "--rate", "10", "--repository"]])
def test_the_folder_of_a_model_is_not_taken_for_a_repository(
    own_repository: Path, capsys: pytest.CaptureFixture[str], verb: list[str]
) -> None:
    assert main([*verb, str(own_repository / "affine")]) == 2
    told = "".join(capsys.readouterr())
    assert f"is the folder of one model; give the repository, which is the folder that holds it: {own_repository}" in told


def test_check_finds_the_damaged_file(own_repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(own_repository)]) == 0
    assert "everything is in order" in capsys.readouterr().out
    (own_repository / "affine" / "1" / "model.onnx").write_bytes(b"other")
    assert main(["check", str(own_repository)]) == 1
    out = capsys.readouterr().out
    assert "PROBLEM affine/1/model.onnx: damaged" in out
    assert "1 problem" in out
    assert main(["check", str(own_repository / "nosuch")]) == 2


def test_check_tells_of_a_version_without_a_profile(own_repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (own_repository / "affine" / "1" / "profile.json").unlink()
    assert main(["check", str(own_repository)]) == 0
    assert "no profile: it is learnt while it serves" in capsys.readouterr().out


def test_check_names_a_model_without_its_wants(own_repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (own_repository / "affine" / "model.toml").unlink()
    assert main(["check", str(own_repository)]) == 1
    assert "PROBLEM affine/model.toml: missing" in capsys.readouterr().out
