from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from loadtests.peers import venvs
from loadtests.peers.fastapi import FASTAPI


def test_a_peer_without_requirements_runs_here() -> None:
    peer = replace(FASTAPI, requirements=())
    assert venvs.build(peer, Path("unused")) == Path(sys.executable)
    assert set(venvs.versions(peer, Path(sys.executable))) >= {"fastapi", "onnxruntime", "uvicorn"}


def test_a_package_that_cannot_be_had_is_told(tmp_path: Path) -> None:
    peer = replace(FASTAPI, requirements=(str(tmp_path / "no-such-package"),))
    with pytest.raises(venvs.CannotBuild, match=r"FastAPI \+ onnxruntime cannot be installed: (.|\n)*no-such-package"):
        venvs.build(peer, tmp_path)


def test_an_environment_is_kept_while_its_requirements_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []

    def run(command: list[str], what: str) -> str:
        commands.append(command)
        (tmp_path / "fastapi" / "bin").mkdir(parents=True, exist_ok=True)
        (tmp_path / "fastapi" / "bin" / "python").touch()
        return ""

    monkeypatch.setattr(venvs, "_run", run)
    python = venvs.build(FASTAPI, tmp_path)
    assert len(commands) == 2
    assert venvs.build(FASTAPI, tmp_path) == python
    assert len(commands) == 2
    venvs.build(replace(FASTAPI, requirements=("fastapi==0",)), tmp_path)
    assert len(commands) == 4
    assert json.loads((tmp_path / "fastapi" / "requirements.json").read_text()) == ["fastapi==0"]
