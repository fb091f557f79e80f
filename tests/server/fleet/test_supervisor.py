"""The supervisor over fake children: order of start and end, restarts, giving up, and what becomes of orphans."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from server import cli
from server.processes import bound_sockets
from tests.child_server import wait_until
from tests.server.fleet.fake_fleet import LIMIT_S, Fleet, book, fleet


def run(one: Fleet, scenario: Callable[[Fleet], Awaitable[None]]) -> int:
    """The supervisor's exit status."""

    async def main() -> int:
        running = asyncio.create_task(
            one.supervisor.run(lambda: one.calls.append("serving"), lambda: one.calls.append("closing"))
        )
        try:
            await scenario(one)
        finally:
            one.supervisor.end()
        return await asyncio.wait_for(running, LIMIT_S)

    return asyncio.run(main())


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_the_engine_comes_first_and_goes_last(tmp_path: Path, stop: signal.Signals) -> None:
    """In a process of its own: a signal that is not heard must not end the tests."""
    said = tmp_path / "said"
    command = [sys.executable, "-m", "tests.server.fleet.fake_fleet", str(tmp_path)]
    with said.open("w") as output, subprocess.Popen(command, stdout=output) as supervisor:
        try:
            wait_until(lambda: said.read_text() == "serving\n", "its children", LIMIT_S)
            supervisor.send_signal(stop)
            assert supervisor.wait(LIMIT_S) == 0
        finally:
            supervisor.kill()
    assert said.read_text() == "serving\nclosing\n"
    engine, fronts = book(tmp_path, "engine"), [book(tmp_path, f"front{n}") for n in (0, 1)]
    assert [what for what, _, _ in engine] == ["began", "ended"]
    for front in fronts:
        assert [what for what, _, _ in front] == ["began", "ended"]
        assert engine[0][2] < front[0][2] < front[1][2] < engine[1][2]


@pytest.mark.parametrize("name", ["engine", "front0"])
def test_who_dies_is_replaced_and_the_others_live_on(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(one: Fleet) -> None:
        await one.reaches(lambda: one.calls == ["serving"])
        for n in (2, 3):
            os.kill(one.pid(name), signal.SIGKILL)
            await one.reaches(lambda n=n: one.began(name) == n)

    one = fleet(tmp_path)
    assert run(one, scenario) == 0
    assert {other: one.began(other) for other in ("engine", "front0", "front1")} == {
        "engine": 1, "front0": 1, "front1": 1, name: 3
    }  # fmt: skip
    assert f"{name} ended (killed by SIGKILL); the next one starts in 0 s" in caplog.text


@pytest.mark.parametrize(("engine", "front"), [("breaks", "good"), ("good", "breaks")])
def test_who_does_not_start_at_all_ends_everything(
    tmp_path: Path, engine: str, front: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(one: Fleet) -> None:
        await one.reaches(one.supervisor._ending.is_set)

    one = fleet(tmp_path, engine, (front,))
    assert run(one, scenario) == 1
    assert "does not start (exit status 3): giving up" in caplog.text
    assert "serving" not in one.calls


def test_who_cannot_be_replaced_ends_everything_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("server.fleet.restarts.FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr("server.fleet.restarts.LONGEST_PAUSE_S", 0.01)

    async def scenario(one: Fleet) -> None:
        await one.reaches(lambda: one.calls == ["serving"])
        os.kill(one.pid("front0"), signal.SIGKILL)
        await one.reaches(one.supervisor._ending.is_set)

    one = fleet(tmp_path, "good", ("breaks later", "good"))
    assert run(one, scenario) == 1
    assert caplog.text.count("front0 ended (exit status 4)") == 4
    assert "front0 does not start (exit status 4): giving up" in caplog.text
    assert [what for what, _, _ in one.book("front1")] == ["began", "ended"]


def test_who_does_not_end_is_killed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(one: Fleet) -> None:
        await one.reaches(lambda: one.calls == ["serving"])

    one = fleet(tmp_path, "good", ("stubborn", "good"), patience_s=0.5)
    assert run(one, scenario) == 0
    assert "front0 does not end: killed" in caplog.text
    assert [what for what, _, _ in one.book("engine")] == ["began", "ended"]


def test_an_end_while_it_starts_ends_what_has_started(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def scenario(one: Fleet) -> None:
        await one.reaches(lambda: one.began("engine") == 1)

    one = fleet(tmp_path)
    assert run(one, scenario) == 0
    assert [what for what, _, _ in one.book("engine")] == ["began", "ended"]


def test_sockets_share_one_port_with_each_other_and_with_nobody_else() -> None:
    sockets = bound_sockets("127.0.0.1", 0, 3)
    try:
        ports = {one.getsockname()[1] for one in sockets}
        assert len(ports) == 1
        for one in sockets:
            one.listen()
        with pytest.raises(OSError, match="in use"):
            bound_sockets("127.0.0.1", ports.pop(), 1)
    finally:
        for one in sockets:
            one.close()


def test_shared_memory_and_front_ends_exclude_each_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--repository", str(tmp_path), "--frontends", "2", "--shared-memory", "on"]
    assert cli.main(["serve", *flags]) == 2
    assert "shared memory needs the server in one process" in capsys.readouterr().err


def test_a_child_that_cannot_be_started_just_now_is_started_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, refusals = asyncio.create_subprocess_exec, [BlockingIOError(11, "no more processes")] * 2

    async def starved(*args: Any, **more: Any) -> Any:
        if refusals and book(tmp_path, "engine"):
            raise refusals.pop()
        return await start(*args, **more)

    async def scenario(one: Fleet) -> None:
        await one.reaches(lambda: one.calls == ["serving"])
        monkeypatch.setattr(asyncio, "create_subprocess_exec", starved)
        os.kill(one.pid("engine"), signal.SIGKILL)
        await one.reaches(lambda: one.began("engine") == 2)

    assert run(fleet(tmp_path), scenario) == 0
    assert caplog.text.count("engine cannot be started: [Errno 11] no more processes") == 2
