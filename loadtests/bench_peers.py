"""`python -m loadtests.bench_peers`: ferry and its peers, one after the other, in rounds, on one machine and by one client.

Writes every round, the command, the environment, versions and settings as JSON, and the report beside it.
"""

from __future__ import annotations

import hashlib
import shlex
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from loadtests.bench_command import Flags, as_program, status
from loadtests.echo import echo_server
from loadtests.environment import environment
from loadtests.errors import LoadTestError
from loadtests.flags import count, names_of, positive
from loadtests.lanes import Lane, measure
from loadtests.limit import InProcess, Sweep
from loadtests.peers import models
from loadtests.peers.peer import Model, Tuning
from loadtests.peers.ready import Choice, Ready, choice, choice_told, ready, reason
from loadtests.peers.roster import ROSTER
from loadtests.peers.visits import Plan, measured, patient_slo_s
from loadtests.peers_report import text, write_html
from loadtests.report import write_json

OVERLOADED_SLO_MS = {"digits": 50.0}
"""Who is measured under overload, and within which objective."""


@dataclass(frozen=True, slots=True)
class Options:
    """The command line."""

    repository: Path
    out: Path
    venvs: Path
    peers: str
    models: str
    rounds: int
    round_s: float
    alone_s: float
    open_s: float
    connections: int
    texts: int


@dataclass(frozen=True, slots=True)
class Subject:
    """A model, and its limit: the same file in process, every way to run it tried once."""

    model: Model
    in_process: InProcess
    sweep: Sweep


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the comparison; 0, or 1 after a message on stderr that says what went wrong."""
    return status("bench-peers", lambda: run(parse(arguments)))


def parse(arguments: Sequence[str] | None) -> Options:
    """The command line as Options; exits with 2 and the usage if it is wrong."""
    flags = Flags("loadtests.bench_peers", __doc__)
    flags.add("--repository", "folder of published models", Path("model_repository"), Path)
    flags.add("--out", "folder for the results", Path("loadtests/results"), Path)
    flags.add("--venvs", "folder for the peers' environments", Path(".venv-peers"), Path)
    flags.add(
        "--peers", "who is measured, by commas", ",".join(one.name for one in ROSTER), names_of([one.name for one in ROSTER])
    )
    flags.add("--models", "what is served, by commas", ",".join(models.NAMES), names_of(models.NAMES))
    flags.add("--rounds", "rounds over all servers, of which the median counts", 5, count)
    flags.add("--round-s", "seconds of the closed loop of many connections", 2.0, positive)
    flags.add("--alone-s", "seconds of the closed loop of one connection", 0.5, positive)
    flags.add("--open-s", "seconds of each open loop", 1.5, positive)
    flags.add("--connections", "connections of the closed loop", 64, count)
    flags.add("--texts", "different sentences", 256, count)
    return Options(**flags.read(arguments))


def run(options: Options) -> Path:
    """Measure, print the table, write the files and return the JSON file's path. Raises LoadTestError."""
    began_at = time.perf_counter()
    peers, told = ready([one for one in ROSTER if one.name in options.peers.split(",")], options.venvs)
    subjects = [_subject(options, name) for name in options.models.split(",")]
    plan = _plan(options, subjects)
    choices = {one.model.name: {each.peer.name: choice(each, one.model, plan) for each in peers} for one in subjects}
    rounds = [_round(options, plan, number, peers, subjects, choices) for number in range(options.rounds)]
    content = {
        "kind": "peers",
        "command": shlex.join(["python", "-m", "loadtests.bench_peers", *sys.argv[1:]]),
        "options": {name: str(value) if isinstance(value, Path) else value for name, value in asdict(options).items()},
        "environment": environment(),
        "slo_ms": {name: slo_s * 1e3 for name, slo_s in plan.slo_s.items()},
        "peers": told,
        "models": {one.model.name: _told(one) for one in subjects},
        "choices": {model: {name: choice_told(one) for name, one in found.items()} for model, found in choices.items()},
        "rounds": rounds,
    }
    file = write_json(options.out, "peers", content)
    page = write_html(file.with_suffix(".html"), content)
    print(text(content))
    print(f"{time.perf_counter() - began_at:.0f} s; written: {file}, {page}")
    return file


def _subject(options: Options, name: str) -> Subject:
    print(f"in-process limit of {name} …", flush=True)
    model, in_process = models.load(name, options.repository, options.texts)
    return Subject(model, in_process, in_process.sweep(min(0.3, options.round_s)))


def _told(one: Subject) -> dict[str, Any]:
    return {
        "sha256": hashlib.sha256(one.model.file.read_bytes()).hexdigest(),
        "bytes": one.model.file.stat().st_size,
        "rows": len(one.model.rows),
        "best": str(one.sweep.best),
        "sweep": {str(setting): rate for setting, rate in one.sweep.rows_per_s.items()},
    }


def _plan(options: Options, subjects: Sequence[Subject]) -> Plan:
    slo_s = {one.model.name: _slo_s(options, one) for one in subjects}
    overloaded = frozenset(OVERLOADED_SLO_MS) & slo_s.keys()
    return Plan(options.round_s, options.alone_s, options.open_s, options.connections, slo_s, overloaded)


def _slo_s(options: Options, one: Subject) -> float:
    slo_ms = OVERLOADED_SLO_MS.get(one.model.name)
    if slo_ms is not None:
        return slo_ms / 1e3
    return patient_slo_s(options.connections, max(one.sweep.rows_per_s.values()))


def _round(
    options: Options,
    plan: Plan,
    number: int,
    peers: Sequence[Ready],
    subjects: Sequence[Subject],
    choices: Mapping[str, Mapping[str, Choice]],
) -> dict[str, Any]:
    """Every server once with every model; the limit is taken before and after them, and the bare echo server."""
    visits: dict[str, dict[str, Any]] = {}
    limits = {}
    for subject in subjects:
        name = subject.model.name
        limit = [_limit(subject, options.round_s / 2)]
        visits[name] = {}
        for at, one in enumerate(peers):
            where = f"round {number + 1}/{options.rounds}, {name}, {at + 1}/{len(peers)} {one.peer.label}"
            tuning = choices[name][one.peer.name].tuning or Tuning()
            visits[name][one.peer.name] = _visit(plan, one, subject.model, tuning, number, where)
        limit.append(_limit(subject, options.round_s / 2))
        limits[name] = statistics.mean(limit)
    return {"visits": visits, "limits": limits, "echo": _echo(options, subjects[0].model)}


def _limit(subject: Subject, budget_s: float) -> float:
    return max(subject.in_process.rate(setting, budget_s) for setting in subject.sweep.contenders)


def _visit(plan: Plan, one: Ready, model: Model, tuning: Tuning, seed: int, where: str) -> dict[str, Any]:
    began_at = time.perf_counter()
    try:
        found = measured(one.peer, model, tuning, one.python, plan, seed)
    except LoadTestError as error:
        print(f"{where}: {error}", file=sys.stderr, flush=True)
        return {"reason": reason(error)}
    lane = found["lanes"]["JSON"]
    took_s = time.perf_counter() - began_at
    print(f"{where}: {lane['per_s']:,.0f} req/s, {lane['cpu_us']:,.0f} us CPU each ({took_s:.1f} s)", flush=True)
    return {"reason": None, **found}


def _echo(options: Options, model: Model) -> dict[str, Any]:
    wire = ROSTER[0].wire(model)
    with echo_server() as server:
        requests = [wire.request(row) for row in model.rows]
        return asdict(measure(Lane("echo", server, requests, options.connections), options.round_s))


if __name__ == "__main__":
    as_program(main)
