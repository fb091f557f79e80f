"""`python -m loadtests.idle_connections`: what thousands of idle connections cost a server, and whether the others notice.

Half of them never send anything, half have had one answer. A second process holds them; this one asks, and reads the
server's memory. The server is started with a short idle timeout, which must end all of them.
"""

from __future__ import annotations

import multiprocessing
import resource
import select
import shlex
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any

from loadtests import cpu
from loadtests.bench_command import Flags, as_program
from loadtests.child import HOST, Child, free_port, running
from loadtests.closed_loop import Result, drive
from loadtests.environment import environment
from loadtests.errors import ChildFailed, LoadTestError, MissingData
from loadtests.flags import count, positive
from loadtests.inputs import random_rows
from loadtests.report import table, write_json
from loadtests.target import Target, metadata
from loadtests.wire import get_request, infer_request

_SPARE_FILES = 1000
_GRACE_S = 10.0
_ASK_CONNECTIONS = 8


@dataclass(frozen=True, slots=True)
class Options:
    """The command line. `n` connections; `idle_timeout_s` is what the server is started with."""

    repository: Path
    model: str
    server: str
    n: int
    idle_timeout_s: int
    ask_s: float
    out: Path


@dataclass(frozen=True, slots=True)
class Held:
    """What the holder saw: connections that stood, and after how many seconds without a byte the server ended them."""

    opened: int
    open_s: float
    closed: int
    first_closed_s: float
    last_closed_s: float


@dataclass(frozen=True, slots=True)
class Asked:
    """What became of the others' requests, and what each cost the server in µs of CPU."""

    result: Result
    cpu_us: float

    def to_json(self) -> dict[str, float]:
        one = self.result
        return {
            "answered": one.answered, "refused": one.n_refused, "failed": one.failed, "per_second": one.throughput,
            "p50_ms": one.p50 * 1e3, "p99_ms": one.p99 * 1e3, "cpu_us": self.cpu_us,
        }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table, write the JSON; 1 if not all connections stood and were ended in time, or a request got no answer."""
    try:
        content = run(parse(arguments))
    except LoadTestError as error:
        print(f"idle_connections: {error}", file=sys.stderr)
        return 1
    return 0 if content["sound"] else 1


def parse(arguments: Sequence[str] | None) -> Options:
    """The command line as Options; exits with 2 and the usage if it is wrong."""
    flags = Flags("loadtests.idle_connections", __doc__)
    flags.add("--repository", "folder of published models", Path("model_repository"), Path)
    flags.add("--model", "model that the others ask", "digits")
    flags.add("--server", "command that takes --repository, --host, --port, --idle-timeout-s",
        f"{sys.executable} -m server.cli serve --grpc-port off --metrics-port 0")  # fmt: skip
    flags.add("--n", "idle connections", 10_000, count)
    flags.add("--idle-timeout-s", "after so long the server is to end them", 20, count)
    flags.add("--ask-s", "seconds of asking without them and with them", 4.0, positive)
    flags.add("--out", "folder for the JSON file", Path("loadtests/results"), Path)
    return Options(**flags.read(arguments))


def run(options: Options) -> dict[str, Any]:
    """The content of the result, which is written and printed too. Raises LoadTestError."""
    _raise_file_limit(options.n + _SPARE_FILES)
    port = free_port()
    flags = ["--repository", str(options.repository), "--host", HOST, "--port", str(port)]
    flags += ["--idle-timeout-s", str(options.idle_timeout_s)]
    with running([*shlex.split(options.server), *flags], port, ready_path="/v2/health/ready") as server:
        content = _measure(options, server)
    print(_table(content))
    print(f"written: {write_json(options.out, 'idle-connections', content)}")
    return content


def _measure(options: Options, server: Child) -> dict[str, Any]:
    to = Target(HOST, server.port, options.model, None)
    (row,) = random_rows(metadata(to), [8], 1, seed=0)
    request = infer_request(to.authority, options.model, row, binary=False)

    def ask() -> Asked:
        before_s = cpu.cpu_s(server.pid)
        result = drive(HOST, server.port, [request], connections=_ASK_CONNECTIONS, duration_s=options.ask_s)
        return Asked(result, (cpu.cpu_s(server.pid) - before_s) / max(1, result.sent) * 1e6)

    ask()  # warm
    without, before = ask(), cpu.memory(server.pid)
    ours, theirs = multiprocessing.Pipe()
    holder = multiprocessing.get_context("spawn").Process(
        target=hold, args=(theirs, server.port, options.n, options.idle_timeout_s + _GRACE_S), daemon=True
    )
    holder.start()
    try:
        _expect(ours, holder.is_alive)  # all stand
        beside = cpu.memory(server.pid)
        with_them = ask()
        ours.send("go on")  # from now on it may wait for their end
        held: Held = _expect(ours, holder.is_alive)
    finally:
        holder.join(_GRACE_S)
        holder.terminate()
    after, later = cpu.memory(server.pid), ask()
    return _content(options, held, {"without": without, "with": with_them, "after": later},
                    {"before": before, "with": beside, "after": after})  # fmt: skip


def _expect(pipe: Pipe, is_alive: Any) -> Any:
    """The holder's next word. Raises ChildFailed when it has died."""
    while not pipe.poll(1.0):
        if not is_alive():
            raise ChildFailed("the process that holds the connections ended; is the limit of open files high enough?")
    return pipe.recv()


def hold(pipe: Pipe, port: int, n: int, patience_s: float) -> None:
    """In a process of its own: open `n`, tell; when told to, wait until the server has ended them, and tell of that."""
    _raise_file_limit(n + _SPARE_FILES)
    began_at = time.perf_counter()
    quiet_since: dict[int, float] = {}
    sockets: dict[int, socket.socket] = {}
    waiting = select.epoll()
    request = get_request(f"{HOST}:{port}", "/v2/health/live")
    for number in range(n):
        sock = socket.create_connection((HOST, port), timeout=patience_s)
        if number % 2:
            sock.sendall(request)
            sock.recv(65536)
        sockets[sock.fileno()] = sock
        quiet_since[sock.fileno()] = time.perf_counter()
        waiting.register(sock.fileno(), select.EPOLLIN | select.EPOLLRDHUP)
    open_s = time.perf_counter() - began_at
    pipe.send("all stand")
    pipe.recv()
    quiet_s = _wait_for_the_end(waiting, sockets, quiet_since, patience_s)
    for sock in sockets.values():
        sock.close()
    waiting.close()
    pipe.send(Held(n, open_s, len(quiet_s), min(quiet_s, default=0.0), max(quiet_s, default=0.0)))


def _wait_for_the_end(
    waiting: select.epoll, sockets: dict[int, socket.socket], quiet_since: Mapping[int, float], patience_s: float
) -> list[float]:
    """Seconds that each was quiet when it ended; those that did not end within `patience_s` from now are left out."""
    quiet_s: list[float] = []
    give_up_at = time.perf_counter() + patience_s
    while sockets and time.perf_counter() < give_up_at:
        for descriptor, _ in waiting.poll(1.0):
            quiet_s.append(time.perf_counter() - quiet_since[descriptor])
            waiting.unregister(descriptor)
            sockets.pop(descriptor).close()
    return quiet_s


def _content(
    options: Options, held: Held, asked: Mapping[str, Asked], memory: Mapping[str, cpu.Memory]
) -> dict[str, Any]:  # fmt: skip
    pss = {when: one.pss for when, one in memory.items() if one.pss is not None}
    if len(pss) < len(memory):
        raise MissingData("the server's proportional memory cannot be read from /proc; run this as the same user")
    answered = all(one.result.answered and not one.result.failed for one in asked.values())
    return {
        "kind": "idle connections beside a closed loop",
        "command": f"python -m loadtests.idle_connections --n {options.n} --idle-timeout-s {options.idle_timeout_s}",
        "options": {name: str(value) for name, value in asdict(options).items() if name not in ("server", "out")},
        "environment": environment(),
        "held": asdict(held),
        "pss_kib_per_connection": (pss["with"] - pss["before"]) / held.opened / 1024,
        "memory_mib": {when: {"pss": pss[when] / 2**20, "rss": one.rss / 2**20} for when, one in memory.items()},
        "others": {when: one.to_json() for when, one in asked.items()},
        "sound": answered and held.opened == held.closed == options.n and held.first_closed_s >= options.idle_timeout_s - 1,
    }  # fmt: skip


def _table(content: Mapping[str, Any]) -> str:
    lines = [
        [when, f"{one['answered']:,}", str(one["refused"]), str(one["failed"]), f"{one['per_second']:,.0f}",
         f"{one['p50_ms']:.2f}", f"{one['p99_ms']:.2f}", f"{one['cpu_us']:.1f}"]
        for when, one in content["others"].items()
    ]  # fmt: skip
    held = content["held"]
    return "\n".join([
        table(("idle connections", "answered", "refused", "failed", "req/s", "p50 ms", "p99 ms", "CPU us"), lines),
        f"{held['opened']:,} stood after {held['open_s']:.1f} s; {content['pss_kib_per_connection']:.1f} KiB PSS each; {held['closed']:,} were ended, "
        f"{held['first_closed_s']:.1f} to {held['last_closed_s']:.1f} s after their last byte",
    ])  # fmt: skip


def _raise_file_limit(n: int) -> None:
    """Let this process, and those that it starts, have `n` files open. Raises MissingData where that is not allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= n:
        return
    if hard != resource.RLIM_INFINITY and hard < n:
        raise MissingData(f"{n} open files are needed, {hard} are allowed; raise the hard limit (ulimit -Hn), or lower --n")
    resource.setrlimit(resource.RLIMIT_NOFILE, (n, hard))


if __name__ == "__main__":
    as_program(main)
