"""Whatever a task does to its process, its parent gets one answer and goes on; nothing survives it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from optimizer.ladder.isolate import OUT, End, Ended, isolate
from optimizer.ladder.limits import Limits, resident_bytes_of_group, usual_memory_bytes
from tests.optimizer.ladder.tasks import Harm

PATIENT = Limits(60.0, 4_000_000_000)


def silent(what: str, done: int, total: int) -> None:
    assert done <= total


def test_a_result_comes_back_with_its_files_and_its_progress(tmp_path: Path) -> None:
    said: list[str] = []
    result = isolate(Harm("nothing"), "a task", tmp_path, PATIENT, lambda what, done, total: said.append(what))
    assert result.note == "well"
    assert result.data["process"] != os.getpid()
    assert (tmp_path / OUT / "made.txt").read_text(encoding="utf-8") == "made"
    assert said in (["about to nothing"], [])  # the last words of a quick task may be lost


@pytest.mark.parametrize(
    ("kind", "end", "message"),
    [
        ("abort", End.DIED, "died of SIGABRT in a task"),
        ("raise", End.RAISED, "a task raised ValueError: no such luck"),
        ("interrupt", End.RAISED, "a task raised KeyboardInterrupt: no message"),
        ("exit", End.RAISED, "a task raised SystemExit: 0"),
        ("leave", End.DIED, "ended with status 0 and without a result in a task"),
        ("fail", End.FAILED, "the tool cannot do that"),
        ("refuse", End.FAILED, "unknown option"),
    ],
)
def test_every_other_end_has_its_reason(tmp_path: Path, kind: str, end: End, message: str) -> None:
    with pytest.raises(Ended) as caught:
        isolate(Harm(kind), "a task", tmp_path, PATIENT, silent)
    assert (caught.value.end, str(caught.value)) == (end, message)


def test_the_log_has_what_the_tool_said(tmp_path: Path) -> None:
    with pytest.raises(Ended) as caught:
        isolate(Harm("fail"), "a task", tmp_path, PATIENT, silent)
    assert "its log" in caught.value.log
    assert "this is fail" in caught.value.log


def test_what_hangs_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    folder = tmp_path / "task"
    folder.mkdir()
    with pytest.raises(Ended, match=r"^killed after 2 s in a task$"):
        isolate(Harm("hang"), "a task", folder, Limits(2.0, PATIENT.memory_bytes), silent)
    _check_gone(tmp_path / "grandchild")


def test_what_eats_memory_is_killed(tmp_path: Path) -> None:
    with pytest.raises(Ended, match=r"^took more than 0.5 GB in a task$") as caught:
        isolate(Harm("eat"), "a task", tmp_path, Limits(PATIENT.time_s, 500_000_000), silent)
    assert caught.value.end is End.TOO_LARGE


def test_an_interrupt_of_ours_kills_the_task(tmp_path: Path) -> None:
    folder = tmp_path / "task"
    folder.mkdir()

    def interrupted(what: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        isolate(Harm("hang"), "a task", folder, PATIENT, interrupted)
    _check_gone(tmp_path / "grandchild")


def test_what_a_group_takes_is_counted() -> None:
    assert resident_bytes_of_group(os.getpgid(0)) > 10_000_000
    assert usual_memory_bytes() > 100_000_000


def _check_gone(file: Path) -> None:
    """A slow machine may have killed the task before it started another one; who is killed there ends a moment later."""
    if file.exists():
        stat = Path(f"/proc/{file.read_text(encoding='utf-8')}/stat")
        give_up_at = time.monotonic() + 10
        while not _has_ended(stat):
            assert time.monotonic() < give_up_at, "it still runs"
            time.sleep(0.01)


def _has_ended(stat: Path) -> bool:
    """Zombies stay where no init collects them."""
    try:
        return stat.read_text(encoding="utf-8").rpartition(")")[2].split()[0] in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return True
