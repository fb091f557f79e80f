"""`python -m loadtests.bench_tuned`: ferry untouched beside its peers as they come and as a hand tunes them, each beyond its own maximum.

Every peer's knobs are swept first (`peers/sweep.py`); the rounds that count are measured afterwards. Writes one JSON file.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
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
from loadtests.peers.visits import Plan, Siege, besieged, patient_slo_s
from loadtests.report import write_json
from loadtests.slo_report import text
from loadtests.verdicts import Round, Side, Verdict, over_rounds, verdict_values

FACTOR = 1.5
"""The overload, as a multiple of each server's own maximum."""

DEFAULT, TUNED = "as it comes", "tuned"
LEAST = {DEFAULT: 10.0, TUNED: 1.0}
"""How many times a peer's goodput ferry's has to be."""

_CARRIED = 0.9
_MOST_RAISES = 3
"""A server that answers so much of a load in time is not overloaded by it: settings that are swept at such a load are all equally good, and a round proves
nothing. So what the best of them answers is the new maximum, at most so many times."""

_MOST_TRIES = 2
"""A visit whose generator did not keep up is made again; so often in all, and what is void then stays void."""

_FLOOR_PER_S, _FLOOR_KEPT = 1.0, 1e-3
"""Goodput that counts as this much where it is less: nothing is an endless multiple of nothing."""

_QUICK = {"rounds": 1, "loop_s": 0.5, "open_s": 1.5, "sweep_s": 1.0}


@dataclass(frozen=True, slots=True)
class Terms:
    """How a model is asked: rows in a request, and the objective; and what is tried for a peer: requests in a batch."""

    n_rows: int
    slo_s: float
    batches: Sequence[int]


TERMS: Mapping[str, Terms] = {"digits": Terms(16, 0.05, (1, 8, 16, 32, 64, 128)), "minilm": Terms(1, 0.25, (1, 4, 8))}
"""digits: with rows enough that one generator overloads a server beside it. minilm: sentences that a peer joins are padded."""

_CONNECTIONS = 64
"""Of the closed loop that finds a server's own maximum."""


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
    model, in_process = models.load(name, options.repository, options.texts, terms.n_rows)
    limit = max(in_process.sweep(min(0.3, options.loop_s)).rows_per_s.values())
    besiege = Besiege(options, model, terms, patient_slo_s(_CONNECTIONS, limit / terms.n_rows))
    contestants: list[Contestant] = []
    sweeps: dict[str, Any] = {}
    for one in peers:
        if one.peer.name == FERRY:
            contestants.append(Contestant(one, DEFAULT, Tuning()))
            continue
        try:
            default, swept, own_per_s = _tuned(besiege, one)
        except LoadTestError as error:
            print(f"{name}, {one.peer.label}: {reason(error)}", file=sys.stderr, flush=True)
            sweeps[one.peer.name] = {"reason": reason(error)}
            continue
        sweeps[one.peer.name] = {
            "reason": None,
            "best": str(swept.best),
            "own_per_s": own_per_s,
            "tried": {str(way): asdict(found) for way, found in swept.tried.items()},
        }
        contestants += [Contestant(one, DEFAULT, default), Contestant(one, TUNED, swept.best)]
    rounds = [_round(besiege, contestants, seed) for seed in range(options.rounds)]
    ways = {one.name: str(one.tuning) for one in contestants if one.name != FERRY}
    return {"terms": asdict(terms), "in_process_rows_per_s": limit, "ways": ways, "sweeps": sweeps, "rounds": rounds}


@dataclass(frozen=True, slots=True)
class Besiege:
    """One model at `FACTOR` times the maximum of whoever serves it."""

    options: Options
    model: Model
    terms: Terms
    calm_slo_s: float

    def __call__(self, one: Ready, tuning: Tuning, open_s: float, seed: int, own_per_s: float = 0.0) -> dict[str, Any]:
        """One visit, which finds the maximum first unless that is known. Raises LoadTestError."""
        slo_s = self.terms.slo_s
        open_s = min(
            max(open_s, 12 * slo_s), 2 * open_s
        )  # queues must fill: at 1.5 times the maximum one is an objective deep after three of them
        calm_slo_s = max(slo_s, self.calm_slo_s)
        siege = Siege(slo_s, FACTOR, _CONNECTIONS, open_s, calm_slo_s, self.options.loop_s, own_per_s)
        return besieged(one.peer, self.model, tuning, one.python, siege, seed)


def _tuned(besiege: Besiege, one: Ready) -> tuple[Tuning, Swept, float]:
    """The fastest way as it comes, the best that its knobs give at a load that none of them can carry, and the maximum which that load is a multiple of.
    Raises LoadTestError."""
    options, model = besiege.options, besiege.model
    start = choice(one, model, Plan(2 * options.loop_s, 0.0, 0.0, _CONNECTIONS, {})).tuning or Tuning()
    own_per_s = float(besiege(one, start, options.sweep_s, 0)["own_per_s"])

    def goodput(tuning: Tuning) -> float:
        found = float(besiege(one, tuning, options.sweep_s, 1, own_per_s)["overload"]["goodput_per_s"])
        print(
            f"sweep, {model.name}, {one.peer.label}, {tuning}: {found:,.0f} of {FACTOR * own_per_s:,.0f} in time/s", flush=True
        )
        return found

    for raises in range(_MOST_RAISES + 1):
        swept = sweep(
            start, one.peer.knobs, values(own_per_s, besiege.terms.slo_s, besiege.terms.batches, one.peer.waits_ms), goodput
        )
        if raises == _MOST_RAISES or swept.goodput < _CARRIED * FACTOR * own_per_s:
            break
        own_per_s = swept.goodput
    return start, swept, own_per_s


def _round(besiege: Besiege, contestants: Sequence[Contestant], seed: int) -> dict[str, Any]:
    """Every contestant once; the order turns, so that nobody is always first."""
    found: dict[str, Any] = {}
    turn = seed % max(1, len(contestants))
    for one in [*contestants[turn:], *contestants[:turn]]:
        void: list[dict[str, Any]] = []
        while True:
            visit = _visit(besiege, one, seed)
            where = f"round {seed + 1}/{besiege.options.rounds}, {besiege.model.name}"
            print(f"{where}, {one.name}: {_told(visit)}", flush=True)
            kept_up = visit["reason"] is not None or visit["overload"]["generator_kept_up"]
            if kept_up or len(void) + 1 == _MOST_TRIES:
                break
            void.append(visit)
        found[one.name] = {**visit, "void": void}
    return found


def _visit(besiege: Besiege, one: Contestant, seed: int) -> dict[str, Any]:
    try:
        return {"reason": None, **besiege(one.ready, one.tuning, besiege.options.open_s, seed)}
    except LoadTestError as error:
        return {"reason": reason(error)}


def _told(visit: Mapping[str, Any]) -> str:
    if visit["reason"] is not None:
        return str(visit["reason"])
    load = visit["overload"]
    void = "" if load["generator_kept_up"] else f", VOID: {load['generator_late']} sent late"
    return f"{load['goodput_per_s']:,.0f} in time/s of {visit['own_per_s']:,.0f}{void}"


def verdicts(model: str, rounds: Sequence[Mapping[str, Any]]) -> list[Verdict]:
    """The claims about one model, peer by peer: ferry's goodput against theirs, in answers per second and as a share of each one's maximum.

    A round counts if both were loaded as meant: on time, and with more than they could carry. Where ferry failed it answered nothing.
    """
    found = []
    for name in dict.fromkeys(name for one in rounds for name in one if name != FERRY):
        least = LEAST[name.rpartition(", ")[2]]
        pairs = [(one.get(FERRY), one.get(name)) for one in rounds]
        per_s = [_compared(ours, theirs, _per_s, _FLOOR_PER_S) for ours, theirs in pairs]
        kept = [_compared(ours, theirs, _kept, _FLOOR_KEPT) for ours, theirs in pairs]
        found.append(over_rounds(f"{model}: goodput / that of {name}", per_s, Side.AT_LEAST, least))
        found.append(over_rounds(f"{model}: share kept of the maximum / that of {name}", kept, Side.AT_LEAST, least))
    return found


Visited = Mapping[str, Any] | None


def _compared(ours: Visited, theirs: Visited, figure: Callable[[Mapping[str, Any]], float], floor: float) -> Round:
    if ours is None or theirs is None or theirs["reason"] is not None:
        return Round(None, valid=False)
    if ours["reason"] is not None:
        return Round(0.0, _as_meant(theirs))
    return Round(figure(ours) / max(floor, figure(theirs)), _as_meant(ours) and _as_meant(theirs))


def _as_meant(visit: Mapping[str, Any]) -> bool:
    load = visit["overload"]
    return bool(load["generator_kept_up"]) and load["goodput_per_s"] < _CARRIED * FACTOR * visit["own_per_s"]


def _per_s(visit: Mapping[str, Any]) -> float:
    return float(visit["overload"]["goodput_per_s"])


def _kept(visit: Mapping[str, Any]) -> float:
    return _per_s(visit) / float(visit["own_per_s"])


if __name__ == "__main__":
    as_program(main)
