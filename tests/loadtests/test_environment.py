from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from loadtests.environment import environment, git_commit, heading


def test_the_environment_can_be_written_as_json() -> None:
    found = orjson.loads(orjson.dumps(environment(["numpy", "no-such-package"])))
    assert found["cores"] >= 1
    assert found["python"].startswith("3.")
    assert found["packages"]["numpy"][0].isdigit()
    assert found["packages"]["no-such-package"] is None


def test_a_heading_names_no_place_of_this_machine() -> None:
    options = {"repository": Path("/home/me/models"), "server": "/usr/bin/python -m server.cli serve", "rounds": 3}
    found = heading("loadtests.bench", ["--repository", "/home/me/models", "--rounds", "3"], options)
    assert found["command"] == "python -m loadtests.bench --repository models --rounds 3"
    assert found["options"] == {"repository": "models", "server": "python -m server.cli serve", "rounds": 3}
    assert found["environment"]["cores"] >= 1


def test_there_is_no_commit_outside_a_repository(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(str(tmp_path))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", "/")
    assert git_commit() is None


def test_there_is_no_commit_without_git(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert git_commit() is None
