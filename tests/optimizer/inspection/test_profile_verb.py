"""The command on real sessions: a trace that viewers read, a table, the steps, and what is refused."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from optimizer.inspection.profile_verb import ProfileVerb
from tests.optimizer.inspection.changed import copy_of


def run(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    ProfileVerb().configure(parser)
    return ProfileVerb().run(parser.parse_args([str(argument) for argument in arguments]))


def test_operators_steps_and_trace(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = tmp_path / "out.json"
    assert run("masked", "--repository", made, "--rows", 2, "--runs", 3, "--trace", trace, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["version"], found["rows"], found["length"]) == ("masked/1", 2, 8)
    calls = {one["operator"]: one["n_calls"] for one in found["operators"]}
    assert calls["ReduceSum"] == 2
    assert sum(one["share"] for one in found["operators"]) == pytest.approx(1)
    assert [step["name"] for step in found["steps"]] == ["decode", "batch", "forward", "split", "encode"]
    events = json.loads(trace.read_text())["traceEvents"]
    assert sum(event["name"] == "model_run" for event in events) == 3
    assert all({"ph", "ts", "dur", "pid", "tid", "name"} <= set(event) for event in events)


def test_a_version_that_takes_text_has_its_tokenizer_timed(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("words", "--repository", made, "--runs", 2, "--length", 5, "--trace", tmp_path / "out.json") == 0
    out = capsys.readouterr().out
    assert "1 row of length 5" in out
    assert "1 text(s) to tokens" in out
    assert "ui.perfetto.dev" in out


def test_the_trace_is_named_after_the_version(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("affine/1", "--repository", made, "--runs", 1, "--threads", 1) == 0
    assert (tmp_path / "affine-1.trace.json").exists()
    assert "1 thread, made-up values" in capsys.readouterr().out


def test_a_version_without_a_profile_runs_on_one_thread(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    repository = copy_of(made, "affine", tmp_path)
    (repository / "affine" / "3" / "profile.json").unlink()
    assert run("affine", "--repository", repository, "--runs", 1, "--trace", tmp_path / "out.json", "--json") == 0
    assert json.loads(capsys.readouterr().out)["threads"] == 1


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (("affine", "--length", "4"), "leave --length out"),
        (("masked", "--length", "99"), "takes lengths of 1 to 16, not 99"),
        (("affine", "--rows", "9"), "batches of up to 4 rows, not of 9"),
        (("nosuch",), "neither a model of"),
        (("affine", "--trace", "nosuch/out.json", "--runs", "1"), "give another --trace"),
    ],
)
def test_what_cannot_be_profiled_is_status_2(
    made: Path, arguments: tuple[str, ...], wanted: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments, "--repository", made) == 2
    assert wanted in capsys.readouterr().err


def test_counts_are_checked(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("affine", "--rows", 0)
    assert "is not a positive whole number" in capsys.readouterr().err
