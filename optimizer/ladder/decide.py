"""Which candidate is published: a pure function of what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from optimizer.ladder.candidate import OWN, PLAIN, Candidate
from optimizer.ladder.gates import Failed, Gate
from server.contract.durations import format_duration
from server.contract.profile import Profile
from server.contract.profiles import ALIKE, mean_in_time_rate, shares_in_time


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
    """The highest rate within the objective wins; of those alike (ALIKE) the one with the fewest steps, then the one on the kernels
    that are always there, then the smallest file. `standings` holds the plain export."""
    names = [one.candidate.name for one in standings]
    shares = dict(zip(names, shares_in_time([one.profile for one in standings], slo_s, max_rows), strict=True))
    rates = {one.candidate.name: mean_in_time_rate(one.profile, slo_s, max_rows) for one in standings}
    least = max(shares.values()) - ALIKE
    winner = min((one for one in standings if shares[one.candidate.name] >= least), key=_simplicity)
    name = winner.candidate.name
    lost = {other: _lost(other, name, shares, slo_s) for other in names if other != name}
    return Decision(name, _because(name, shares, slo_s), shares, rates, lost)


def _simplicity(one: Standing) -> tuple[int, bool, int, str]:
    return len(one.candidate.steps), one.candidate.backend != OWN, one.n_bytes, one.candidate.name


def _lost(name: str, winner: str, shares: Mapping[str, float], slo_s: float) -> Failed:
    share = shares[name] / shares[winner]
    within = f"the rate of {winner} within {format_duration(slo_s)}"
    if shares[name] < max(shares.values()) - ALIKE:
        return Failed(Gate.RATE, f"{share:.2f} times {within}")
    return Failed(Gate.RATE, f"{share:.2f} times {within}, which is no difference; {winner} is simpler")


def _because(winner: str, shares: Mapping[str, float], slo_s: float) -> str:
    slo, plain = format_duration(slo_s), shares[PLAIN.name]
    if winner != PLAIN.name:
        return (
            f"it sustains {shares[winner] / plain:.2f} times the rate of the plain export within {slo}"
            if plain
            else (f"it keeps {slo}, which the plain export does not")
        )
    others = len(shares) - 1
    if not others:
        return "no other candidate passed all gates"
    return f"none of the {others} other{'s' * (others > 1)} that passed all gates sustains a clearly higher rate within {slo}"
