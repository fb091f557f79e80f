"""The command: exit statuses, JSON, and the answers' part."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optimizer.inspection.diff_verb import DiffVerb


def run(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    DiffVerb().configure(parser)
    return DiffVerb().run(parser.parse_args([str(argument) for argument in arguments]))


def run_json(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, dict[str, Any]]:
    status = run(*arguments, "--json")
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return status, found


def test_equal_versions(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("affine/1", "affine/2", "--repository", made, "--samples") == 0
    out = capsys.readouterr().out
    assert "files: same" in out
    assert "answers: same" in out
    assert "made-up requests" in out


def test_different_versions(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, found = run_json(capsys, "affine/1", "affine/3", "--repository", made, "--samples")
    assert (status, found["same"]) == (1, False)
    standings = {part["name"]: part["standing"] for part in found["parts"]}
    assert (standings["files"], standings["answers"], standings["operators"]) == ("differs", "differs", "same")
    answers = next(part for part in found["parts"] if part["name"] == "answers")
    assert answers["data"]["agreement"]["outputs"][0]["largest_absolute"] == pytest.approx(0.5)


def test_given_samples(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "some.npz", x=np.ones((2, 4), np.float32))
    run("affine/1", "affine/3", "--repository", made, "--samples", tmp_path / "some.npz")
    out = capsys.readouterr().out
    assert "over 2 rows" in out
    assert "made-up" not in out


def test_other_inputs_are_not_asked(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, found = run_json(capsys, "affine/1", "plain/1", "--repository", made, "--samples")
    assert status == 1
    assert found["parts"][-1]["standing"] == "not compared"


@pytest.mark.parametrize(("second", "wanted"), [("nosuch", "neither a model of"), ("affine/7", "no such version")])
def test_what_is_not_there_is_status_2(made: Path, second: str, wanted: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("affine/1", second, "--repository", made) == 2
    assert wanted in capsys.readouterr().err
