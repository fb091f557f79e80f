from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from loadtests import cpu
from loadtests.call import get_json
from loadtests.child import HOST, free_port, running
from loadtests.errors import ChildFailed, ServerError
from tests.loadtests import fake_v2


def command(port: int) -> list[str]:
    return [sys.executable, fake_v2.__file__, "--port", str(port), "--host", HOST]


def test_a_free_port_can_be_taken_and_no_connection_is_given_it() -> None:
    ports = {free_port() for _ in range(20)}
    assert len(ports) > 10
    assert max(ports) < 32_768
    for port in ports:
        with socket.create_server((HOST, port)):
            pass


def test_a_server_answers_while_it_runs_and_leaves_nothing() -> None:
    port = free_port()
    with running(command(port), port, ready_path="/v2/health/ready") as child:
        assert get_json(HOST, child.port, "/v2/health/ready") == {"ready": True}
        assert cpu.tree(child.pid) == [child.pid]
    assert cpu.tree(child.pid) == []


def test_a_server_is_stopped_when_its_user_fails() -> None:
    port = free_port()
    with pytest.raises(ServerError), running(command(port), port, ready_path="/v2/health/ready") as child:
        get_json(HOST, child.port, "/v2/models/unknown")
    assert cpu.tree(child.pid) == []


def test_a_server_that_ends_tells_why() -> None:
    words = [sys.executable, "-c", "import sys; sys.exit('no models here')"]
    with pytest.raises(ChildFailed, match=r"exit status 1(.|\n)*no models here"), running(words, 1, ready_path="/"):
        raise AssertionError("not reached")


def test_a_server_that_is_never_ready_is_given_up() -> None:
    port = free_port()
    with (
        pytest.raises(ChildFailed, match="did not answer /nowhere"),
        running(command(port), port, ready_path="/nowhere", timeout_s=0.05),
    ):
        raise AssertionError("not reached")


def test_a_missing_command_is_one_clear_error() -> None:
    with pytest.raises(ChildFailed, match="cannot start"), running(["/no/such/command"], 1, ready_path="/"):
        raise AssertionError("not reached")


def test_what_a_server_started_ends_with_it(tmp_path: Path) -> None:
    port = free_port()
    script = (
        "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True);"
        f"import os; os.execv(sys.executable, {command(port)!r})"
    )
    words = [sys.executable, "-c", script]
    with running(words, port, ready_path="/v2/health/ready", environment={"A": "b"}, folder=tmp_path) as child:
        family = cpu.tree(child.pid)
        assert len(family) == 2
        assert Path(f"/proc/{child.pid}/cwd").resolve() == tmp_path.resolve()
        assert b"A=b" in Path(f"/proc/{child.pid}/environ").read_bytes().split(b"\0")
    assert not any(Path(f"/proc/{one}").exists() and "zombie" not in _state(one) for one in family)


def _state(pid: int) -> str:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line for line in lines if line.startswith("State:"))
