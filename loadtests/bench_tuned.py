"""`python -m loadtests.bench_tuned`: ferry untouched beside its peers as they come and as a hand tunes them, each beyond its own maximum.

Every peer's knobs are swept first (`peers/sweep.py`); the rounds that count are measured afterwards. Writes one JSON file.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from loadtests.bench_command import Flags, as_program, status
from loadtests.environment import heading
from loadtests.errors import LoadTestError
from loadtests.flags import count, names_of, positive
from loadtests.peers import models
from loadtests.peers.peer import Model, Tuning
from loadtests.peers.ready import Ready, choice, ready, reason
from loadtests.peers.roster import ROSTER
from loadtests.peers.summary import FERRY
from loadtests.peers.sweep import Swept, sweep, values
from loadtests.peers.visits import Plan, Siege, besieged
from loadtests.report import write_json
from loadtests.slo_report import text
from loadtests.verdicts import Side, Verdict, verdict_values

FACTOR = 1.5
"""The overload, as a multiple of each server's own maximum."""

DEFAULT, TUNED = "as it comes", "tuned"
LEAST = {DEFAULT: 10.0, TUNED: 1.0}
"""How many times a peer's goodput ferry's has to be."""

_CARRIED = 0.9
_MOST_RAISES = 6
"""A server that answers so much of a load in time is not overloaded by it: then its maximum was taken in a bad moment, and settings that are swept at
such a load are all equally good. So it is raised, at most so many times."""

_FLOOR_PER_S, _FLOOR_KEPT = 1.0, 1e-3
"""Goodput that counts as this much where it is less: nothing is an endless multiple of nothing."""

_QUICK = {"rounds": 1, "loop_s": 0.5, "open_s": 1.5, "sweep_s": 1.0}


@dataclass(frozen=True, slots=True)
class Terms:
    """How a model is asked: rows in a request, the objective, and the connections that a server's own maximum is taken with."""

    n_rows: int
    slo_s: float
    connections: int
    batches: bool


TERMS: Mapping[str, Terms] = {"digits": Terms(16, 0.05, 64, True), "minilm": Terms(1, 0.25, 16, False)}
"""Sentences differ in length, and no peer joins such. digits: with rows enough that one generator overloads a server beside it."""


@dataclass(frozen=True, slots=True)
class Options:
    """The command line."""

    repository: Path
    out: Path
    venvs: Path
    peers: str
    models: str
    rounds: int
    loop_s: float
    open_s: float
    sweep_s: float
    texts: int


@dataclass(frozen=True, slots=True)
class Contestant:
    """A server run in one way."""

    ready: Ready
    way: str
    tuning: Tuning

    @property
    def name(self) -> str:
        return FERRY if self.ready.peer.name == FERRY else f"{self.ready.peer.name}, {self.way}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the comparison; 0, or 1 after a message on stderr that says what went wrong. A claim that misses is a result."""
    return status("bench-tuned", lambda: run(parse(arguments), sys.argv[1:] if arguments is None else arguments))


def parse(arguments: Sequence[str] | None) -> Options:
    """The command line as Options; exits with 2 and the usage if it is wrong."""
    flags = Flags("loadtests.bench_tuned", __doc__)
    names = [one.name for one in ROSTER]
    flags.add("--repository", "folder of published models", Path("model_repository"), Path)
    flags.add("--out", "folder for the results", Path("loadtests/results"), Path)
    flags.add("--venvs", "folder for the peers' environments", Path(".venv-peers"), Path)
    flags.add("--peers", "who is measured, by commas", ",".join(names), names_of(names))
    flags.add("--models", "what is served, by commas", ",".join(TERMS), names_of(list(TERMS)))
    flags.add("--rounds", "rounds over all servers, of which the median counts", 3, count)
    flags.add("--loop-s", "seconds of the closed loop that finds a server's own maximum", 1.5, positive)
    flags.add("--open-s", "seconds of an overload of a round", 4.0, positive)
    flags.add("--sweep-s", "seconds of an overload of the sweep", 2.0, positive)
    flags.add("--texts", "different sentences", 256, count)
    flags.add_quick(_QUICK)
    return Options(**flags.read(arguments))


def run(options: Options, arguments: Sequence[str]) -> Path:
    """Measure, print the tables, write the JSON file and return its path. Raises LoadTestError."""
    began_at = time.perf_counter()
    peers, told = ready([one for one in ROSTER if one.name in options.peers.split(",")], options.venvs)
    found = {name: _subject(options, name, peers) for name in options.models.split(",")}
    claims = [verdict for name, one in found.items() for verdict in verdicts(name, one["rounds"])]
    content = {
        "kind": "tuned",
        **heading("loadtests.bench_tuned", arguments, asdict(options)),
        "factor": FACTOR,
        "peers": told,
        "subjects": found,
        "verdicts": verdict_values(claims),
    }
    file = write_json(options.out, "tuned", content)
    print(text(content))
    print(f"{time.perf_counter() - began_at:.0f} s; written: {file}")
    return file


def _subject(options: Options, name: str, peers: Sequence[Ready]) -> dict[str, Any]:
    terms = TERMS[name]
    model, _ = models.load(name, options.repository, options.texts, terms.n_rows)
    contestants: list[Contestant] = []
    sweeps: dict[str, Any] = {}
    for one in peers:
        if one.peer.name == FERRY:
            contestants.append(Contestant(one, DEFAULT, Tuning()))
            continue
        try:
            default, swept = _tuned(options, one, model, terms)
        except LoadTestError as error:
            print(f"{name}, {one.peer.label}: {reason(error)}", file=sys.stderr, flush=True)
            sweeps[one.peer.name] = {"reason": reason(error)}
            continue
        sweeps[one.peer.name] = {
            "reason": None,
            "best": str(swept.best),
            "tried": {str(way): goodput for way, goodput in swept.tried.items()},
        }
        contestants += [Contestant(one, DEFAULT, default), Contestant(one, TUNED, swept.best)]
    rounds = [_round(options, name, model, contestants, seed) for seed in range(options.rounds)]
    ways = {one.name: str(one.tuning) for one in contestants if one.name != FERRY}
    return {"terms": asdict(terms), "ways": ways, "sweeps": sweeps, "rounds": rounds}


def _tuned(options: Options, one: Ready, model: Model, terms: Terms) -> tuple[Tuning, Swept]:
    """The fastest way as it comes, and the best that its knobs give at a load that this one cannot carry. Raises LoadTestError."""
    plan = Plan(2 * options.loop_s, 0.0, 0.0, terms.connections, {})
    start = choice(one, model, plan).tuning or Tuning()
    asked = _siege(options, terms, options.loop_s)
    own_per_s = float(besieged(one.peer, model, start, one.python, asked, 0)["own_per_s"])

    def goodput(tuning: Tuning) -> float:
        siege = Siege(terms.slo_s, FACTOR, terms.connections, _open_s(options.sweep_s, terms), own_per_s=own_per_s)
        try:
            found = float(besieged(one.peer, model, tuning, one.python, siege, 1)["overload"]["goodput_per_s"])
        except LoadTestError as error:
            print(f"sweep, {model.name}, {one.peer.label}, {tuning}: {reason(error)}", flush=True)
            return 0.0
        print(f"sweep, {model.name}, {one.peer.label}, {tuning}: {found:,.0f} in time/s", flush=True)
        return found

    for _ in range(_MOST_RAISES):
        if goodput(start) < _CARRIED * FACTOR * own_per_s:
            break
        own_per_s *= FACTOR
    return start, sweep(start, one.peer.knobs, values(own_per_s, terms.slo_s, terms.batches), goodput)


def _open_s(wanted_s: float, terms: Terms) -> float:
    """Long enough for queues to fill: at 1.5 times the maximum one is an objective deep after three of them."""
    return min(max(wanted_s, 12 * terms.slo_s), 2 * wanted_s)


def _siege(options: Options, terms: Terms, loop_s: float) -> Siege:
    return Siege(terms.slo_s, FACTOR, terms.connections, _open_s(options.open_s, terms), loop_s)


def _round(options: Options, name: str, model: Model, contestants: Sequence[Contestant], seed: int) -> dict[str, Any]:
    """Every contestant once; the order turns, so that nobody is always first."""
    found = {}
    turn = seed % max(1, len(contestants))
    for one in [*contestants[turn:], *contestants[:turn]]:
        siege = _siege(options, TERMS[name], options.loop_s)
        try:
            found[one.name] = {"reason": None, **besieged(one.ready.peer, model, one.tuning, one.ready.python, siege, seed)}
        except LoadTestError as error:
            found[one.name] = {"reason": reason(error)}
        print(f"round {seed + 1}/{options.rounds}, {name}, {one.name}: {_told(found[one.name])}", flush=True)
    return found


def _told(visit: Mapping[str, Any]) -> str:
    if visit["reason"] is not None:
        return str(visit["reason"])
    return f"{visit['overload']['goodput_per_s']:,.0f} in time/s of {visit['own_per_s']:,.0f}"


def verdicts(model: str, rounds: Sequence[Mapping[str, Any]]) -> list[Verdict]:
    """The claims about one model, peer by peer: ferry's goodput against theirs, in answers per second and as a share of each one's maximum."""
    found = []
    for name in dict.fromkeys(name for one in rounds for name in one if name != FERRY):
        least = LEAST[name.rpartition(", ")[2]]
        pairs = [(one[FERRY], one[name]) for one in rounds if _both(one, name)]
        per_s = _median(_per_s(ours) / max(_FLOOR_PER_S, _per_s(theirs)) for ours, theirs in pairs)
        kept = _median(_kept(ours) / max(_FLOOR_KEPT, _kept(theirs)) for ours, theirs in pairs)
        found.append(Verdict(f"{model}: goodput / that of {name}", per_s, Side.AT_LEAST, least))
        found.append(Verdict(f"{model}: share kept of the maximum / that of {name}", kept, Side.AT_LEAST, least))
    return found


def _both(one: Mapping[str, Any], name: str) -> bool:
    return all(visit in one and one[visit]["reason"] is None for visit in (FERRY, name))


def _per_s(visit: Mapping[str, Any]) -> float:
    return float(visit["overload"]["goodput_per_s"])


def _kept(visit: Mapping[str, Any]) -> float:
    return _per_s(visit) / float(visit["own_per_s"])


def _median(found: Iterable[float]) -> float | None:
    known = list(found)
    return statistics.median(known) if known else None


if __name__ == "__main__":
    as_program(main)
