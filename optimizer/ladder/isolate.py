"""Runs a task in a process of its own, under a time and a memory limit; whatever becomes of that process, ours goes on."""

from __future__ import annotations

import json
import os
import pickle
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from optimizer.ladder.limits import Limits, resident_bytes_of_group
from optimizer.stages.base import Result
from server.intake.measure import Progress
from server.intake.timer import now

Task = Callable[[Path, Progress], Result]
"""(empty folder for the output, progress) → result. Must be picklable, and importable by name in the other process."""

TASK, ANSWER, LOG, OUT = "task.pickle", "answer.json", "log.txt", "out"
"""Files and the folder that the two processes share."""

_START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from optimizer.ladder.child import main; main(*sys.argv[2:])"
_POLL_S = 0.2
_LOG_CHARACTERS = 20_000
_GB = 1e9


class End(Enum):
    """How a task ended without a result."""

    FAILED = "the task says that it cannot"
    RAISED = "an exception that nobody expected"
    DIED = "the process ended by itself"
    TOO_LONG = "killed at the time limit"
    TOO_LARGE = "killed at the memory limit"


class Ended(Exception):
    """No result: `end` says why, the message what happened in words; `log` holds what the process printed."""

    def __init__(self, end: End, message: str, log: str) -> None:
        super().__init__(message)
        self.end = end
        self.log = log


def isolate(task: Task, what: str, folder: Path, limits: Limits, progress: Progress) -> Result:
    """Runs `task` in a new process; its output is in folder/OUT. `what` is the task's name in messages.

    Raises Ended. When an exception comes through here, as Ctrl-C does, the process and all that it started are killed first.
    """
    (folder / OUT).mkdir()
    (folder / TASK).write_bytes(pickle.dumps(task))
    watch = _Watch(what, limits, progress)
    read_end, write_end = os.pipe()
    # An own session: Ctrl-C on the terminal reaches us alone, and what the child starts can be counted and killed with it.
    with (folder / LOG).open("wb") as log, os.fdopen(read_end, "rb", buffering=0) as pipe:
        try:
            command = [sys.executable, "-c", _START, json.dumps(sys.path), str(folder), str(write_end)]
            child = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=log, stderr=log, pass_fds=(write_end,), start_new_session=True
            )
        finally:
            os.close(write_end)
        with child:
            try:
                over = watch.until_it_ends(child, pipe.fileno())
            finally:
                _kill(child)
    if over is not None:
        raise Ended(*over, _tail(folder / LOG))
    return _answer(folder, what, child.returncode)


@dataclass(slots=True)
class _Watch:
    """Looks at a child now and then."""

    what: str
    limits: Limits
    progress: Progress
    unread: bytes = b""

    def until_it_ends(self, child: subprocess.Popen[bytes], pipe: int) -> tuple[End, str] | None:
        """None when it ended by itself, else which limit it broke."""
        began_at = looked_at = now()
        is_open = True
        while child.poll() is None:
            if not is_open:
                _wait(child)
            elif select.select([pipe], [], [], _POLL_S)[0]:
                is_open = self._hear(os.read(pipe, 65536))
            if now() - began_at > self.limits.time_s:
                return End.TOO_LONG, f"killed after {self.limits.time_s:g} s in {self.what}"
            if now() - looked_at > _POLL_S:
                looked_at = now()
                if resident_bytes_of_group(child.pid) > self.limits.memory_bytes:
                    return End.TOO_LARGE, f"took more than {self.limits.memory_bytes / _GB:.3g} GB in {self.what}"
        return None

    def _hear(self, data: bytes) -> bool:
        """Passes progress on; False at the end of it."""
        *lines, self.unread = (self.unread + data).split(b"\n")
        for line in lines:
            self.progress(*json.loads(line))
        return bool(data)


def _wait(child: subprocess.Popen[bytes]) -> None:
    """Until its end, or until it is time to look at it again."""
    try:
        child.wait(_POLL_S)
    except subprocess.TimeoutExpired:
        return


def _kill(child: subprocess.Popen[bytes]) -> None:
    """The child and all of its group, dead or alive."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:  # all of them ended by themselves
        return


def _answer(folder: Path, what: str, status: int) -> Result:
    """What the child wrote before it ended. Raises Ended."""
    log = _tail(folder / LOG)
    if status < 0:
        name = signal.Signals(-status).name
        hint = " (the system does that when memory runs out)" if name == "SIGKILL" else ""
        raise Ended(End.DIED, f"died of {name} in {what}{hint}", log)
    if not (folder / ANSWER).exists():
        raise Ended(End.DIED, f"ended with status {status} and without a result in {what}", log)
    answer = json.loads((folder / ANSWER).read_text(encoding="utf-8"))
    if answer["end"] is None:
        return Result.read(folder)
    end = End[answer["end"]]
    said = answer["message"] if end is End.FAILED else f"{what} raised {answer['message']}"
    raise Ended(end, said, answer["log"] + log)


def _tail(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")[-_LOG_CHARACTERS:]
