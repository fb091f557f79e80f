"""`python -m loadtests.bench_slo`: what of a model's own rate is left under an objective of three full batches, and what beyond capacity.

For a paced model, sentences and images: offline rate, capacity by search, goodput at multiples of it. The subjects are in `slo_subjects.py`.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from loadtests.arrivals import parse_shape
from loadtests.bench_command import Flags, as_program, status
from loadtests.capacity import Found, capacity_values, find_capacity
from loadtests.child import HOST, Child
from loadtests.environment import heading
from loadtests.flags import count, positive
from loadtests.job import Job, Wanted
from loadtests.load import Generator
from loadtests.overload import Offer, overload
from loadtests.probe import Prober
from loadtests.report import write_json
from loadtests.slo_report import text
from loadtests.slo_subjects import NAMES, Subject, subject
from loadtests.target import target
from loadtests.verdicts import Round, Side, Verdict, over_rounds, verdict_values

FACTORS = (1.0, 2.0, 4.0)
"""Loads, as multiples of the capacity found."""

N_FULL_BATCHES = 3
_LEAST_GOODPUT = 0.95
_FIRST_GUESS = 0.93
_FIRST_STEP = 1.12
_PROBE_SLOS = 15
"""One try in the search takes as many objectives: a shorter one ends before a queue that is too long has filled."""

_CONNECTIONS = 1024
_QUICK = {"rounds": 1, "probe_s": 2.0, "confirm_s": 5.0, "offline_s": 0.6, "load_s": 2.5}


@dataclass(frozen=True, slots=True)
class Options:
    """The command line."""

    repository: Path
    out: Path
    server: str
    paced_server: str
    models: str
    rounds: int
    probe_s: float
    confirm_s: float
    offline_s: float
    load_s: float
    texts: int


@dataclass(frozen=True, slots=True)
class Measured:
    """One subject: offline rates beside the search and in each round, the search, and by factor the loads of each round.

    Without a rate that holds there is nothing to take multiples of, and no load.
    """

    subject: Subject
    slo_s: float
    offline: Sequence[float]
    found: Found
    loads: Mapping[float, Sequence[Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class Summary:
    """Medians over the rounds whose generator kept up. `goodput_per_s` and `p99_ms` (of the answers) by factor; `peak_per_s` is the capacity, or a goodput above it."""

    offline_per_s: float
    capacity_per_s: float
    peak_per_s: float
    goodput_per_s: Mapping[float, float | None]
    p99_ms: Mapping[float, float | None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; 0, or 1 after a message on stderr that says what went wrong. A claim that misses is a result."""
    return status("bench-slo", lambda: run(parse(arguments), sys.argv[1:] if arguments is None else arguments))


def parse(arguments: Sequence[str] | None) -> Options:
    """The command line as Options; exits with 2 and the usage if it is wrong."""
    flags = Flags("loadtests.bench_slo", __doc__)
    flags.add("--repository", "folder of published models", Path("model_repository"), Path)
    flags.add("--out", "folder for the JSON file", Path("loadtests/results"), Path)
    flags.add(
        "--server", "command that takes --repository, --host, --port", f"{sys.executable} -m server.cli serve --grpc-port off"
    )
    paced = f"{sys.executable} -m tests.measure.serve_paced"
    flags.add("--paced-server", "command that takes --port, --slo-ms, --alpha-ms, --beta-ms, --max-rows", paced)
    flags.add("--models", f"of {', '.join(NAMES)}, by commas", ",".join(NAMES))
    flags.add("--rounds", "rounds over the loads, of which the median counts", 3, count)
    flags.add(
        "--probe-s", f"seconds of one try in the search for the capacity, at least; {_PROBE_SLOS} objectives", 4.0, positive
    )
    flags.add("--confirm-s", "seconds of the run that confirms it, at most, where that is more than two tries", 25.0, positive)
    flags.add("--offline-s", "seconds of one in-process rate", 2.0, positive)
    flags.add("--load-s", "seconds of one load of a round", 4.0, positive)
    flags.add("--texts", "different sentences", 256, count)
    flags.add_quick(_QUICK)
    return Options(**flags.read(arguments))


def run(options: Options, arguments: Sequence[str]) -> Path:
    """Measure, print the tables, write the JSON file and return its path. Raises LoadTestError."""
    began_at = time.perf_counter()
    found = [measured(options, subject(name, options.repository, options.texts)) for name in options.models.split(",")]
    told = [verdict for one in found for verdict in verdicts(one)]
    content = {
        "kind": "slo",
        **heading("loadtests.bench_slo", arguments, asdict(options)),
        "subjects": {one.subject.name: content_of(one) for one in found},
        "verdicts": verdict_values(told),
    }
    file = write_json(options.out, "slo", content)
    print(text(content))
    print(f"{time.perf_counter() - began_at:.0f} s; written: {file}")
    return file


def measured(options: Options, one: Subject) -> Measured:
    """Everything about one subject. Raises LoadTestError."""
    slo_s = N_FULL_BATCHES * one.batch_s
    offline = [one.offline(options.offline_s)]
    with one.served(options.server if one.version else options.paced_server, slo_s) as server:
        _warm_up(server, one, slo_s, offline[0])
        found = _search(options, one, server, slo_s, offline[0])
        _say(f"{one.name}: capacity {found.rate:,.1f}/s at {slo_s * 1e3:.0f} ms, offline {offline[0]:,.1f}/s")
        loads: dict[float, list[Mapping[str, Any]]] = {factor: [] for factor in FACTORS}
        for seed in range(options.rounds if found.rate else 0):
            offline.append(one.offline(options.offline_s))
            for factor in FACTORS:
                offer = Offer(factor * found.rate, slo_s, _load_s(options, slo_s), seed)
                loads[factor].append(overload(server, one.requests, offer, one.work))
            _say(f"{one.name}: round {seed + 1}/{options.rounds}")
    return Measured(one, slo_s, offline, found, loads)


def _load_s(options: Options, slo_s: float) -> float:
    """Long enough for queues to fill in the quarter that is not counted."""
    return max(options.load_s, 6 * slo_s)


def _warm_up(server: Child, one: Subject, slo_s: float, offline: float) -> None:
    overload(server, one.requests, Offer(0.5 * offline, slo_s, 1.0, 0))


def _search(options: Options, one: Subject, server: Child, slo_s: float, offline: float) -> Found:
    wanted = Wanted(f"http://{HOST}:{server.port}", one.name, slo_s=slo_s)
    job = Job(wanted, target(wanted.url, one.name), one.requests, parse_shape("poisson"), None)
    prober = Prober(job, Generator(1, _CONNECTIONS, max(2.0, 4 * slo_s)), server.pid, {})
    probe_s = max(options.probe_s, _PROBE_SLOS * slo_s)
    first_rate, longest_s = _FIRST_GUESS * offline, max(options.confirm_s, 2 * probe_s)
    return find_capacity(prober, slo_s, probe_s, first_rate, first_step=_FIRST_STEP, longest_s=longest_s)


def summary(one: Measured) -> Summary:
    """What counts of the rounds."""
    goodput = {factor: _median(load["goodput_per_s"] for load in counting(loads)) for factor, loads in one.loads.items()}
    p99_ms = {factor: _median(load["latency_ms"]["p99"] for load in counting(loads)) for factor, loads in one.loads.items()}
    beyond = [goodput[factor] or 0.0 for factor in FACTORS[1:]]  # at 1 x it is the chance of the arrivals besides
    return Summary(statistics.median(one.offline), one.found.rate, max(one.found.rate, *beyond), goodput, p99_ms)


def counting(loads: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Those that the generator kept up with, unless there is none."""
    return [one for one in loads if one["generator_kept_up"]] or loads


def _median(values: Iterable[float | None]) -> float | None:
    found = [one for one in values if one is not None]
    return statistics.median(found) if found else None


def verdicts(one: Measured) -> list[Verdict]:
    """The claims about one subject. Where the generator was the limit, or did not keep up, there is none to be judged."""
    found, name = summary(one), one.subject.name
    share = found.capacity_per_s / found.offline_per_s
    told = [Verdict(f"{name}: server / offline", share, Side.AT_LEAST, one.subject.least_share, one.found.limited)]
    for factor in FACTORS[1:]:
        kept = [Round(load["goodput_per_s"] / found.peak_per_s, load["generator_kept_up"]) for load in one.loads[factor]]
        told.append(over_rounds(f"{name}: goodput at {factor:g} x / peak", kept, Side.AT_LEAST, _LEAST_GOODPUT))
    if one.subject.work:
        told += _by_work(one, found)
    for factor, loads in one.loads.items():
        p99 = [Round(_of_slo(load["latency_ms"]["p99"], one.slo_s), load["generator_kept_up"]) for load in loads]
        told.append(over_rounds(f"{name}: p99 of the answered / SLO, at {factor:g} x", p99, Side.AT_MOST, 1.0))
    return told


def _by_work(one: Measured, found: Summary) -> list[Verdict]:
    """The same goodput in mean requests' worth of work: who answers more of the short ones answers more, and does not do more."""
    done = {factor: [load["work_in_slo_per_s"] for load in counting(one.loads[factor])] for factor in FACTORS[1:]}
    peak = max([found.capacity_per_s, *(statistics.median(some) for some in done.values() if some)])
    told = []
    for factor in FACTORS[1:]:
        kept = [Round(load["work_in_slo_per_s"] / peak, load["generator_kept_up"]) for load in one.loads[factor]]
        told.append(
            over_rounds(f"{one.subject.name}: work in time at {factor:g} x / peak", kept, Side.AT_LEAST, _LEAST_GOODPUT)
        )
    return told


def _of_slo(p99_ms: float | None, slo_s: float) -> float | None:
    return None if p99_ms is None else p99_ms / (slo_s * 1e3)


def content_of(one: Measured) -> dict[str, Any]:
    """What of it goes into the result."""
    return {
        **one.subject.told,
        "batch_ms": one.subject.batch_s * 1e3,
        "slo_ms": one.slo_s * 1e3,
        "offline_per_s": list(one.offline),
        "capacity": capacity_values(one.found),
        "generator_was_the_limit": one.found.limited,
        "loads": {f"{factor:g}": list(loads) for factor, loads in one.loads.items()},
        "summary": _plain(summary(one)),
    }


def _plain(found: Summary) -> dict[str, Any]:
    values = asdict(found)
    for name in ("goodput_per_s", "p99_ms"):
        values[name] = {f"{factor:g}": one for factor, one in values[name].items()}
    return values


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    as_program(main)
