"""Idle connections beside others' requests, in small; and what the script must not call sound."""

from __future__ import annotations

import json
import multiprocessing
import resource
from pathlib import Path

import pytest

from loadtests.idle_connections import hold, main
from tests.loadtests.conftest import Serve

pytestmark = pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs /proc")


def test_idle_connections_cost_little_are_ended_and_the_others_are_answered(
    own_repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "--repository",
        str(own_repository),
        "--model",
        "affine",
        "--n",
        "150",
        "--idle-timeout-s",
        "2",
        "--ask-s",
        "0.1",
    ]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 0
    (file,) = (tmp_path / "out").glob("idle-connections-*.json")
    content = json.loads(file.read_text())
    held = content["held"]
    assert (held["opened"], held["closed"], content["sound"]) == (150, 150, True)
    assert held["first_closed_s"] >= 1
    assert content["pss_kib_per_connection"] < 64
    assert "150 were ended" in capsys.readouterr().out


def test_connections_that_nobody_ends_are_noticed(serve: Serve) -> None:
    """The holder's own account; in this process, so that it can be looked into."""
    ours, theirs = multiprocessing.Pipe()
    ours.send("go on")
    port = serve(lambda number, request: [b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"]).port
    hold(theirs, port, 6, 0.2)
    assert ours.recv() == "all stand"
    held = ours.recv()
    assert (held.opened, held.closed, held.first_closed_s) == (6, 0, 0.0)


def test_too_few_open_files_are_said_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 512))
    assert main(["--repository", str(tmp_path), "--n", "10000"]) == 1
    assert "11000 open files are needed, 512 are allowed" in capsys.readouterr().err


def test_a_server_that_does_not_start_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--repository", str(tmp_path / "nosuch"), "--n", "1"]) == 1
    assert "no model repository" in capsys.readouterr().err
