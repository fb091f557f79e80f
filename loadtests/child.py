"""Servers under test as child processes: a free port, a wait until they answer, a stop by pid that leaves nothing."""

from __future__ import annotations

import os
import random
import select
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from loadtests import cpu
from loadtests.call import call
from loadtests.errors import ChildFailed, LoadTestError
from loadtests.wire import get_request

HOST = "127.0.0.1"
_PORTS = range(20_000, 32_768)
"""Below those of outgoing connections, as systems are set by default."""
_POLL_S = 0.01
_STOP_TIMEOUT_S = 20.0
_KILL_TIMEOUT_S = 5.0
_TAIL_BYTES = 2_000


@dataclass(frozen=True, slots=True)
class Child:
    """A running server that has answered 200. `started_at` is `time.perf_counter` just before its process was made."""

    pid: int
    port: int
    started_at: float


def free_port() -> int:
    """A loopback port that is free, and of those that the system gives to nobody by itself: no connection takes it before its server does.
    Raises ChildFailed."""
    for port in random.SystemRandom().sample(_PORTS, 100):
        with suppress(OSError), socket.create_server((HOST, port)):
            return port
    raise ChildFailed(f"no free port was found in {_PORTS.start} to {_PORTS.stop - 1}")


@contextmanager
def running(
    command: Sequence[str],
    port: int,
    *,
    ready_path: str,
    timeout_s: float = 120.0,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Iterator[Child]:
    """Start `command` in `folder`, wait until GET `ready_path` on `port` answers 200, and stop it at the end.

    `environment` is added to this process's own. Stopping is SIGTERM, then SIGKILL after 20 s, and for whatever process
    of its making is left. Raises ChildFailed, with the end of what the child printed, if it cannot be started, ends or
    is not ready within `timeout_s`.
    """
    variables = {**os.environ, **environment} if environment is not None else None
    with tempfile.TemporaryFile() as output:
        started_at = time.perf_counter()
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=variables, cwd=folder
            )
        except OSError as error:
            raise ChildFailed(f"cannot start {command[0]}: {error}") from error
        try:
            if (why := _wait_until_ready(process, port, ready_path, started_at + timeout_s)) is not None:
                raise ChildFailed(f"`{' '.join(command)}` {why}. It printed:\n{_tail(output)}")
            yield Child(process.pid, port, started_at)
        finally:
            _stop(process)


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, path: str, give_up_at: float) -> str | None:
    request = get_request(f"{HOST}:{port}", path)
    while time.perf_counter() < give_up_at:
        if process.poll() is not None:
            return f"ended with exit status {process.returncode}"
        with suppress(LoadTestError):
            if call(HOST, port, request, timeout_s=5.0).status == 200:
                return None
        time.sleep(_POLL_S)
    return f"did not answer {path} with 200 in time"


def _stop(process: subprocess.Popen[bytes]) -> None:
    with _descendants(process.pid) as family:
        process.terminate()
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for handle in family:
            with suppress(ProcessLookupError):  # most have ended by themselves
                signal.pidfd_send_signal(handle, signal.SIGKILL)
            select.select([handle], [], [], _KILL_TIMEOUT_S)  # readable once the process has ended


@contextmanager
def _descendants(pid: int) -> Iterator[list[int]]:
    """Handles of the living descendants of `pid`: they stay right when a number is given to another process."""
    handles = []
    try:
        for one in cpu.tree(pid)[1:]:
            with suppress(ProcessLookupError):
                handles.append(os.pidfd_open(one))
        yield handles
    finally:
        for handle in handles:
            os.close(handle)


def _tail(output: IO[bytes]) -> str:
    output.seek(0)
    return output.read()[-_TAIL_BYTES:].decode(errors="replace").strip()
