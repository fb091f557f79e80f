"""The verbs `explain` and `replay`, on files and against a real server."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from server.explain import ExplainVerb
from server.replay import ReplayVerb
from tests.child_server import ChildServer
from tests.golden.make import FOLDER
from tests.server.recording.build import Tape

X = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}


def ferry(verb: Any, *flags: str) -> int:
    parser = argparse.ArgumentParser()
    verb.configure(parser)
    status: int = verb.run(parser.parse_args(flags))
    return status


@pytest.fixture
def late(tmp_path: Path) -> Path:
    """A recording with a late request."""
    tape = Tape()
    tape.submit(0.0, 1, 2, deadline_ms=20.0)
    tape.done(33.0)
    tape.ring.name(2, "twice")
    tape.ring.name(1, "twice")
    path = tmp_path / "late.jsonl"
    path.write_bytes(tape.data())
    return path


def test_a_request_of_a_file(late: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ferry(ExplainVerb(), "1", "--file", str(late)) == 0
    assert "why: 12.5 ms late" in capsys.readouterr().out


def test_all_requests_that_are_called_so(late: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ferry(ExplainVerb(), "twice", "--file", str(late)) == 0
    out = capsys.readouterr().out
    assert out.startswith("2 requests are called 'twice'\nrequest 1 'twice'")
    assert "request 2 'twice'" in out


def test_lists(late: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ferry(ExplainVerb(), "--list", "late", "-n", "1", "--file", str(late)) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "2 late requests in 4 events; 1 of them:"
    assert len(out) == 3
    assert ferry(ExplainVerb(), "--list", "refused", "--file", str(late)) == 0
    assert capsys.readouterr().out == "0 refused requests in 4 events\n"


def test_no_such_request(late: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ferry(ExplainVerb(), "77", "--file", str(late)) == 1
    assert "request 77 is not in this recording, which has requests 1 to 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--list", "late", "-n", "0"), "with -n of 1 or more"),
        ((), "name a request, or ask for --list late, refused or slow"),
        (("1", "--list", "late"), "name a request, or ask for --list late, refused or slow"),
        (("1", "--file", "/nowhere"), "/nowhere: No such file or directory"),
        (("1", "--url", "http://127.0.0.1:1"), "no server answers at http://127.0.0.1:1"),
        (("1", "--url", "127.0.0.1"), "--url is like http://127.0.0.1:8000, found '127.0.0.1'"),
    ],
)
def test_nothing_to_read(flags: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert ferry(ExplainVerb(), *flags) == 2
    assert told in capsys.readouterr().err


def test_a_request_of_a_running_server(server: ChildServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.call("POST", "/v2/models/affine/infer", {"id": "please explain", "inputs": [X]})
    assert ferry(ExplainVerb(), "please explain", "--url", f"http://127.0.0.1:{server.port}") == 0
    assert "why: in time" in capsys.readouterr().out


def test_a_server_with_front_ends_and_a_token(
    start_server: Callable[..., ChildServer], tiny_repository: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    server = start_server(tiny_repository, "--frontends", "1", FERRY_ADMIN_TOKEN="s3cret-token")
    url = f"http://127.0.0.1:{server.port}"
    assert server.call("POST", "/v2/models/affine/infer", {"id": "through a front end", "inputs": [X]}).status == 200
    assert ferry(ExplainVerb(), "through a front end", "--url", url) == 2
    assert "answers 401: the admin token is missing or wrong" in capsys.readouterr().err
    assert ferry(ExplainVerb(), "through a front end", "--url", url, "--token", "s3cret-token") == 0
    monkeypatch.setenv("FERRY_ADMIN_TOKEN", "s3cret-token")
    assert ferry(ExplainVerb(), "through a front end", "--url", url) == 0
    assert capsys.readouterr().out.count("why: in time") == 2
    monkeypatch.setenv("FERRY_ADMIN_TOKEN", "short")
    assert ferry(ExplainVerb(), "1", "--url", url) == 2
    assert "admin_token" in capsys.readouterr().err


def test_a_server_that_is_not_ferry(server: ChildServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert ferry(ExplainVerb(), "1", "--url", f"http://127.0.0.1:{server.port}/nothing/there") == 2
    assert "answers 404: no route" in capsys.readouterr().err


def test_equal_decisions(capsys: pytest.CaptureFixture[str]) -> None:
    assert ferry(ReplayVerb(), str(FOLDER / "steady.jsonl")) == 0
    assert capsys.readouterr().out.endswith("events, all decisions equal\n")


def test_another_decision(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "edited.jsonl"
    path.write_bytes((FOLDER / "steady.jsonl").read_bytes().replace(b'"idle"', b'"full"', 1))
    assert ferry(ReplayVerb(), str(path)) == 1
    out = capsys.readouterr().out
    assert "recorded:" in out
    assert "this ferry:" in out


@pytest.mark.parametrize(("content", "told"), [(None, "No such file"), (b"nonsense", "not the header of a recording")])
def test_no_recording(tmp_path: Path, content: bytes | None, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "file.jsonl"
    if content is not None:
        path.write_bytes(content)
    assert ferry(ReplayVerb(), str(path)) == 2
    assert told in capsys.readouterr().err
