"""`python -m loadtests.bench_frontends`: one process against several front ends before an engine, interleaved, on one machine.

Throughput, and the CPU time of each answer by process role, for digits and for a model that does nothing.
"""

from __future__ import annotations

import os
import shlex
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from loadtests import cpu, data
from loadtests.bench_command import Flags, as_program, status
from loadtests.call import call, get_json
from loadtests.child import HOST, Child, free_port, running
from loadtests.closed_loop import drive
from loadtests.environment import environment
from loadtests.errors import MissingData, ServerError
from loadtests.flags import count, positive
from loadtests.report import number, table, write_json
from loadtests.tensors import Array
from loadtests.wire import error_text, infer_request

NOOP = "noop"
_NOOP_SLO = "1s"
_WIDTH = 64
_WARM_UP_S = 1.0
_ROLES = {"server.engine_process": "engine", "server.front_process": "front end"}
_HEADER = ("", "req/s", "CPU us/req", "engine", "front ends", "own", "p50 ms", "p99 ms", "/ one process", "refused", "failed")


@dataclass(frozen=True, slots=True)
class Options:
    """The command line."""

    repository: Path
    out: Path
    server: str
    frontends: int
    connections: int
    rounds: int
    round_s: float


@dataclass(frozen=True, slots=True)
class Round:
    """One closed loop against one server. `cpu_us` by role per answer, "server" being all of it; `own_us` is the driver's.
    `load_average`: of the last minute, when the round ended; above 3 others used the machine as well."""

    per_s: float
    cpu_us: Mapping[str, float]
    own_us: float
    p50_ms: float
    p99_ms: float
    n_answered: int
    n_refused: int
    n_failed: int
    load_average: float


@dataclass(frozen=True, slots=True)
class World:
    """A running server: how many front ends, and what it costs when nobody asks."""

    name: str
    server: Child
    idle_pss: Mapping[str, int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; 0, or 1 after a message on stderr that says what went wrong."""
    return status("bench-frontends", lambda: run(parse(arguments)))


def parse(arguments: Sequence[str] | None) -> Options:
    """The command line as Options; exits with 2 and the usage if it is wrong."""
    flags = Flags("loadtests.bench_frontends", __doc__)
    flags.add(
        "--repository", "folder of published models; digits is taken from it, if it is there", Path("model_repository"), Path
    )
    flags.add("--out", "folder for the JSON file", Path("loadtests/results"), Path)
    serve = f"{sys.executable} -m server.cli serve --grpc-port off --metrics-port 0"
    flags.add("--server", "command that takes --repository, --host, --port and --frontends", serve)
    flags.add("--frontends", "front ends of the second server", 2, count)
    flags.add("--connections", "connections", 64, count)
    flags.add("--rounds", "rounds, of which the median counts", 7, count)
    flags.add("--round-s", "seconds of each server and model in a round", 3.0, positive)
    return Options(**flags.read(arguments))


def run(options: Options) -> Path:
    """Measure, print the table, write the JSON file and return its path. Raises LoadTestError."""
    with ExitStack() as stack:
        repository = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if (options.repository / "digits").is_dir():
            shutil.copytree(options.repository / "digits", repository / "digits")
        publish_noop(options, repository)
        worlds = [stack.enter_context(world(options, repository, n)) for n in (0, options.frontends)]
        requests = requests_by_model(worlds[0].server)
        rounds: dict[tuple[str, str], list[Round]] = {(w.name, model): [] for model in requests for w in worlds}
        for one in worlds:
            for bodies in requests.values():
                measure(one.server, bodies, options.connections, min(_WARM_UP_S, options.round_s))
        for _ in range(options.rounds):
            for model, bodies in requests.items():
                for one in worlds:
                    rounds[one.name, model].append(measure(one.server, bodies, options.connections, options.round_s))
    print(_table(rounds, worlds[0].name))
    for one in worlds:
        memory = ", ".join(f"{role} {number(pss / 1e6, 1)} MB" for role, pss in one.idle_pss.items())
        print(f"{one.name}: idle PSS {memory}")
    file = write_json(options.out, "frontends", _content(options, worlds, rounds))
    print(f"written: {file}")
    return file


def publish_noop(options: Options, repository: Path) -> None:
    """Upload a model that returns what it is given, over the admin API of a server that runs only for that."""
    query = f"/admin/models/{NOOP}/versions?slo={_NOOP_SLO}"
    with world(options, repository, 0) as one:
        file = noop_onnx()
        head = f"POST {query} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {len(file)}\r\n\r\n"
        reply = call(HOST, one.server.port, head.encode() + file, timeout_s=120.0)
    if reply.status != 201:
        raise ServerError(reply.status, error_text(reply.body))


def noop_onnx() -> bytes:
    """y = x for FP32 [batch, 64]. Raises MissingData without the package onnx."""
    try:
        from onnx import TensorProto, helper  # of the optimizer's extra, and needed for this one model
    except ImportError as error:
        raise MissingData(f"the model that does nothing needs the package onnx: {error}") from error
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", _WIDTH]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], NOOP, [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    made: bytes = model.SerializeToString()
    return made


@contextmanager
def world(options: Options, repository: Path, frontends: int) -> Iterator[World]:
    """A server over `repository` until the end. Raises ChildFailed."""
    port = free_port()
    flags = ["--repository", str(repository), "--host", HOST, "--port", str(port), "--frontends", str(frontends)]
    with running([*shlex.split(options.server), *flags], port, ready_path="/v2/health/ready") as server:
        name = f"{frontends} front ends" if frontends else "one process"
        yield World(name, server, _by_role(server.pid, lambda pid: cpu.own_pss(pid) or 0))


def requests_by_model(server: Child) -> dict[str, list[bytes]]:
    """What is asked of each model that is served."""
    rows: dict[str, list[dict[str, Array]]] = {}
    for model in get_json(HOST, server.port, "/v2/models")["models"]:
        if model == NOOP:
            numbers = np.random.default_rng(0).random((64, 1, _WIDTH), dtype=np.float32)
            rows[model] = [{"x": row} for row in numbers]
        else:
            meta = get_json(HOST, server.port, f"/v2/models/{model}")["inputs"][0]
            rows[model] = data.digits(data.InputMeta(meta["name"], meta["datatype"], tuple(meta["shape"])))
    return {model: [infer_request(HOST, model, row, binary=False) for row in some] for model, some in rows.items()}


def measure(server: Child, requests: Sequence[bytes], connections: int, duration_s: float) -> Round:
    """Drive one server for so long. Raises CannotConnect."""
    before = _by_role(server.pid, cpu.own_cpu_s)
    result = drive(HOST, server.port, requests, connections=connections, duration_s=duration_s)
    after = _by_role(server.pid, cpu.own_cpu_s)
    n = max(1, result.answered)
    spent = {role: (after[role] - before.get(role, 0.0)) / n * 1e6 for role in after}
    return Round(
        per_s=result.throughput, cpu_us={"server": sum(spent.values()), **spent},
        own_us=result.own_cpu_s / max(1, result.sent) * 1e6, p50_ms=result.p50 * 1e3, p99_ms=result.p99 * 1e3,
        n_answered=result.answered, n_refused=result.n_refused, n_failed=result.failed,
        load_average=os.getloadavg()[0],
    )  # fmt: skip


def _by_role(pid: int, measured: Any) -> dict[str, Any]:
    """A figure of each process of a tree, summed up by what the process does."""
    found: dict[str, Any] = {}
    pids = cpu.tree(pid)
    for one in pids:
        role = next((name for module, name in _ROLES.items() if module in cpu.command(one)), None)
        role = role or ("supervisor" if len(pids) > 1 else "everything")
        found[role] = found.get(role, 0) + measured(one)
    return found


def _table(rounds: Mapping[tuple[str, str], Sequence[Round]], base: str) -> str:
    lines = []
    for (name, model), some in rounds.items():
        ratio = statistics.median(a.per_s / b.per_s for a, b in zip(some, rounds[base, model], strict=True))
        lines.append([
            f"{model}, {name}", number(_median(some, lambda r: r.per_s)), number(_median(some, lambda r: r.cpu_us["server"]), 1),
            *(number(_median(some, lambda r, role=role: r.cpu_us.get(role, float("nan"))), 1) for role in ("engine", "front end")),
            number(_median(some, lambda r: r.own_us), 1), number(_median(some, lambda r: r.p50_ms), 2),
            number(_median(some, lambda r: r.p99_ms), 2), number(ratio, 3),
            number(sum(r.n_refused for r in some)), number(sum(r.n_failed for r in some)),
        ])  # fmt: skip
    return table(_HEADER, lines)


def _median(rounds: Sequence[Round], figure: Any) -> float:
    return float(statistics.median(figure(one) for one in rounds))


def _content(options: Options, worlds: Sequence[World], rounds: Mapping[tuple[str, str], Sequence[Round]]) -> dict[str, Any]:
    return {
        "command": shlex.join(["python", "-m", "loadtests.bench_frontends", *sys.argv[1:]]),
        "options": {name: str(value) if isinstance(value, Path) else value for name, value in asdict(options).items()},
        "environment": environment(),
        "idle_pss_bytes": {one.name: dict(one.idle_pss) for one in worlds},
        "lanes": {f"{model}, {name}": {"rounds": [asdict(r) for r in some]} for (name, model), some in rounds.items()},
    }


if __name__ == "__main__":
    as_program(main)
