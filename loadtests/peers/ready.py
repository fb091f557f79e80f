"""Before a comparison: which peers can be started, and which way to run a model is the fastest for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtests.errors import LoadTestError
from loadtests.peers import venvs
from loadtests.peers.peer import ROOT, Model, Peer, Tuning, described
from loadtests.peers.visits import Plan, trial


@dataclass(frozen=True, slots=True)
class Ready:
    """A peer that can be started."""

    peer: Peer
    python: Path


@dataclass(frozen=True, slots=True)
class Choice:
    """How a peer runs a model (None: it decides that itself), and what each way reached or why it did not run."""

    tuning: Tuning | None
    tried: Mapping[Tuning, float | str]


def ready(peers: Sequence[Peer], folder: Path) -> tuple[list[Ready], dict[str, Any]]:
    """Those that can be started, and what is told of all of them: one that cannot be installed has a reason."""
    found, told = [], {}
    for peer in peers:
        told[peer.name] = {**described(peer), "versions": {}, "reason": None}
        try:
            python = venvs.build(peer, folder)
            told[peer.name]["versions"] = venvs.versions(peer, python)
        except venvs.CannotBuild as error:
            print(f"{peer.label}: {error}", flush=True)
            told[peer.name]["reason"] = reason(error)
        else:
            found.append(Ready(peer, python))
    return found, told


def choice(one: Ready, model: Model, plan: Plan) -> Choice:
    """The fastest way to run a model, each tried once; one that fails is out. A single one needs no trial."""
    candidates = one.peer.candidates.get(model.name, ())
    if len(candidates) < 2:
        return Choice(next(iter(candidates), None), {})
    tried: dict[Tuning, float | str] = {}
    for tuning in candidates:
        try:
            tried[tuning] = trial(one.peer, model, tuning, one.python, plan)
        except LoadTestError as error:
            tried[tuning] = reason(error)
        told = tried[tuning]
        rate = f"{told:,.0f} req/s" if isinstance(told, float) else told
        print(f"trial, {model.name}, {one.peer.label}, {tuning}: {rate}", flush=True)
    rates = {tuning: found for tuning, found in tried.items() if isinstance(found, float)}
    return Choice(max(rates, key=rates.__getitem__, default=candidates[0]), tried)


def choice_told(one: Choice) -> dict[str, Any]:
    """As values for JSON."""
    chosen = None if one.tuning is None else str(one.tuning)
    return {"chosen": chosen, "tried": {str(tuning): found for tuning, found in one.tried.items()}}


def reason(error: LoadTestError) -> str:
    """An error as it may be published: without the places where this machine keeps things."""
    return str(error).replace(str(ROOT), ".").replace(str(Path.home()), "~")
