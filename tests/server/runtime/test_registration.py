"""The child process that examines uploads: killed, hung or crashed, it costs its own upload and nothing else."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from server.contract.classes import Classes, ServiceClass
from server.contract.wants import Wants, read_wants
from server.errors import BadRequest, Cancelled, TooLarge
from server.runtime.registration import Registrar, Registration

NEW = Registration("new", 1.0, None, None)


async def body(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


def child_that_runs(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Whatever the registrar starts, this Python code runs instead."""
    real = asyncio.create_subprocess_exec

    async def fake(_program: str, *_arguments: str, **options: Any) -> asyncio.subprocess.Process:
        return await real(sys.executable, "-c", code, **options)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", fake)


def register(repository: Path, timeout_s: float = 20.0, *chunks: bytes) -> int:
    return asyncio.run(Registrar(repository, 100, timeout_s).register(NEW, body(*(chunks or (b"model",)))))


def nothing_left(repository: Path) -> bool:
    return [path.name for path in repository.rglob("*")] == [".staging"]


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("import os; os.kill(os.getpid(), 9)", "exit status -9"),
        ("import os; os.abort()", "exit status -6"),
        ("raise MemoryError", "exit status 1"),
        ("print('the reason'); raise SystemExit(1)", "the reason"),
    ],
    ids=["killed", "aborted", "crashed", "refused"],
)
def test_a_child_that_does_not_succeed_is_a_bad_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, says: str
) -> None:
    child_that_runs(monkeypatch, code)
    with pytest.raises(BadRequest, match=says):
        register(tmp_path)
    assert nothing_left(tmp_path)


def test_a_child_that_hangs_is_killed_after_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child_that_runs(monkeypatch, "import time; time.sleep(1000)")
    with pytest.raises(BadRequest, match=r"within 0\.2 s"):
        register(tmp_path, 0.2)
    assert nothing_left(tmp_path)


def test_an_upload_over_the_limit_is_not_read_to_its_end(tmp_path: Path) -> None:
    read = []

    async def endless() -> AsyncIterator[bytes]:
        while True:
            read.append(40)
            yield bytes(40)

    with pytest.raises(TooLarge, match="100 bytes"):
        asyncio.run(Registrar(tmp_path, 100, 20).register(NEW, endless()))
    assert sum(read) == 120
    assert nothing_left(tmp_path)


def test_a_body_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    async def breaking() -> AsyncIterator[bytes]:
        yield b"half"
        raise Cancelled("gone")

    with pytest.raises(Cancelled):
        asyncio.run(Registrar(tmp_path, 100, 20).register(NEW, breaking()))
    assert nothing_left(tmp_path)


def test_a_cancelled_registration_kills_its_child_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = tmp_path / "started"
    repository = tmp_path / "repository"
    repository.mkdir()
    child_that_runs(monkeypatch, f"import time; open({str(started)!r}, 'w').close(); time.sleep(1000)")

    async def scenario() -> None:
        task = asyncio.create_task(Registrar(repository, 100, 60).register(NEW, body(b"model")))
        while not started.exists():
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(asyncio.wait_for(scenario(), 30))
    assert nothing_left(repository)


def test_a_new_model_needs_an_objective(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="slo=50ms"):
        asyncio.run(Registrar(tmp_path, 100, 20).register(Registration("new", None, None, None), body(b"x")))
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_said(tmp_path: Path) -> None:
    with pytest.raises(TooLarge, match=r"does not fit on the repository's disk .No space left on device.; make room there"):
        asyncio.run(Registrar(tmp_path, 1 << 20, 20)._receive(body(bytes(20_000)), Path("/dev/full")))


def test_another_slo_is_all_that_an_upload_changes_of_a_model_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wants = Wants(0.05, 4, declared=Classes((ServiceClass("interactive", 0.05), ServiceClass("batch", 2.0, True)), 1))
    (tmp_path / "new" / "1").mkdir(parents=True)
    path = tmp_path / "new" / "model.toml"
    path.write_text(wants.to_toml(), encoding="utf-8")
    edited = path.read_text(encoding="utf-8").replace("max_rows = 4", "max_rows = 8")
    child_that_runs(monkeypatch, f"import pathlib; pathlib.Path({str(path)!r}).write_text({edited!r})")  # while it is examined
    assert register(tmp_path) == 2
    found = read_wants(path)
    assert (found.slo_s, found.max_rows) == (1.0, 8)
    assert found.classes == Classes((ServiceClass("interactive", 1.0), ServiceClass("batch", 2.0, True)), 1)
