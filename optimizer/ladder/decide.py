"""Which candidate is published: a pure function of what was measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from optimizer.ladder.candidate import OWN, PLAIN, Candidate
from optimizer.ladder.gates import CLEARLY_SMALLER, Failed, Gate
from server.contract.durations import format_duration
from server.contract.profile import Profile
from server.contract.profiles import ALIKE, mean_in_time_rate, shares_in_time
from server.intake.measure import FRONT_END_ROWS_PER_S

CLOSE = 1 / 3
"""Profiles are taken minutes apart, in which a machine may become a fifth faster or slower: what is behind by less than this may be
ahead. Such finalists are measured again, in turns."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A candidate that passed all gates: its profile at the placement that serves the objective best, and its size."""

    candidate: Candidate
    profile: Profile
    n_bytes: int


@dataclass(frozen=True, slots=True)
class Decision:
    """By name: `shares`, each one's rate within the objective as a share of the best one's, averaged over lengths; `rates`, the same
    in rows per second; `lost`, why each of the others was not chosen. `because`: why the winner was, as a clause."""

    winner: str
    because: str
    shares: Mapping[str, float]
    rates: Mapping[str, float]
    lost: Mapping[str, Failed]


def decide(standings: Sequence[Standing], slo_s: float, max_rows: int) -> Decision:
    """The highest rate within the objective wins, but for size: of those alike (ALIKE) in rate, as far as a front end can take it in, one
    that is CLEARLY_SMALLER beats those that are larger. Of those alike in that, too, the one with the fewest steps wins, then the one on
    the kernels that are always there, then the smallest file. `standings` holds the plain export."""
    rates = {one.candidate.name: mean_in_time_rate(one.profile, slo_s, max_rows) for one in standings}
    shares = _shares(standings, slo_s, max_rows)
    winner = _winner(standings, shares, _shares(standings, slo_s, max_rows, FRONT_END_ROWS_PER_S))
    others = [one for one in standings if one is not winner]
    lost = {one.candidate.name: _lost(one, winner, shares, slo_s) for one in others}
    return Decision(winner.candidate.name, _because(winner, standings, shares, slo_s), shares, rates, lost)


def close_ones(standings: Sequence[Standing], slo_s: float, max_rows: int) -> list[str]:
    """Names of those that may be the best one, in order: a single one where it is clear which it is."""
    shares = _shares(standings, slo_s, max_rows)
    winner = _winner(standings, shares, _shares(standings, slo_s, max_rows, FRONT_END_ROWS_PER_S))
    least = shares[winner.candidate.name] * (1 - CLOSE)
    return [name for name, share in shares.items() if share >= least]


def _winner(standings: Sequence[Standing], shares: Mapping[str, float], usable: Mapping[str, float]) -> Standing:
    """`usable`: shares of what a front end can take in."""
    enough = _best(standings, usable)
    smallest = min(one.n_bytes for one in enough)
    return min(_best([one for one in enough if one.n_bytes < CLEARLY_SMALLER * smallest], shares), key=_simplicity)


def _best(standings: Sequence[Standing], shares: Mapping[str, float]) -> list[Standing]:
    """Those that are alike and best."""
    least = max(shares[one.candidate.name] for one in standings) - ALIKE
    return [one for one in standings if shares[one.candidate.name] >= least]


def _shares(standings: Sequence[Standing], slo_s: float, max_rows: int, most: float = math.inf) -> dict[str, float]:
    found = shares_in_time([one.profile for one in standings], slo_s, max_rows, most)
    return dict(zip((one.candidate.name for one in standings), found, strict=True))


def _simplicity(one: Standing) -> tuple[int, bool, int, str]:
    return len(one.candidate.steps), one.candidate.backend != OWN, one.n_bytes, one.candidate.name


def _lost(one: Standing, winner: Standing, shares: Mapping[str, float], slo_s: float) -> Failed:
    name = winner.candidate.name
    ahead = shares[one.candidate.name] - shares[name]
    said = f"{shares[one.candidate.name] / shares[name]:.2f} times the rate of {name} within {format_duration(slo_s)}"
    if ahead < -ALIKE:
        return Failed(Gate.RATE, said)
    which = "which is no difference" if ahead <= ALIKE else _TOO_MUCH
    if one.n_bytes >= CLEARLY_SMALLER * winner.n_bytes:
        return Failed(Gate.RATE, f"{said}, {which}; {name} is {winner.n_bytes / one.n_bytes:.2f} times as large")
    return Failed(Gate.RATE, f"{said}, {which}; {name} is simpler")


def _because(winner: Standing, standings: Sequence[Standing], shares: Mapping[str, float], slo_s: float) -> str:
    slo, best = format_duration(slo_s), shares[winner.candidate.name]
    plain = next(one for one in standings if one.candidate.name == PLAIN.name)
    if winner is not plain:
        if not shares[PLAIN.name]:
            return f"it keeps {slo}, which the plain export does not"
        sustains = f"{best / shares[PLAIN.name]:.2f} times the rate of the plain export within {slo}"
        if best - shares[PLAIN.name] > ALIKE:
            return f"it sustains {sustains}"
        which = "the same rate" if shares[PLAIN.name] - best <= ALIKE else f"{sustains}, {_TOO_MUCH}"
        return f"it is {winner.n_bytes / plain.n_bytes:.2f} times as large as the plain export, at {which}"
    others = len(standings) - 1
    if not others:
        return "no other candidate passed all gates"
    which = f"none of the {others} other{'s' * (others > 1)} that passed all gates"
    return f"{which} sustains a clearly higher rate within {slo}, or the same at half the size"


_TOO_MUCH = f"and no front end takes in more than {FRONT_END_ROWS_PER_S:,} single rows/s"
