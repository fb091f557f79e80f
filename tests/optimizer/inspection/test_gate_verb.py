"""The command: a line for each item, the verdict, exit statuses, JSON."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from optimizer.inspection.gate_verb import GateVerb
from tests.optimizer.inspection.changed import change, compared, copy_of


def run(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    GateVerb().configure(parser)
    return GateVerb().run(parser.parse_args([str(argument) for argument in arguments]))


def test_ready(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    repository = copy_of(made, "affine", tmp_path)
    change(repository / "affine" / "3", "manifest.json", compared)
    assert run("affine", "--repository", repository, "--deploy", tmp_path / "nosuch") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "affine/3: ready"
    assert lines[0].split() == ["ok", "digests", "1", "files", "are", "what", "the", "manifest", "says"]
    assert "not found: no alert rules below" in lines[-2]


def test_not_ready_lists_what_fails(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("roots", "--repository", made) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "roots/1: not ready: quality, edges"


def test_json(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("affine/1", "--repository", made, "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["version"], found["ready"]) == ("affine/1", False)
    assert {item["name"] for item in found["items"] if item["mark"] == "FAIL"} == {"quality"}


def test_what_is_not_there_is_status_2(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("nosuch", "--repository", made) == 2
    assert "ferry gate: nosuch: neither a model of" in capsys.readouterr().err
