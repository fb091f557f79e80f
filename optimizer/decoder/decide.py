"""Which candidate of a decoder is published: a pure function of what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from optimizer.decoder.trial import PLAIN, Trial
from optimizer.ladder.gates import Failed, Gate
from server.contract.durations import format_duration
from server.contract.profiles import ALIKE
from server.contract.step_profile import StepProfile, margin


@dataclass(frozen=True, slots=True)
class Rate:
    """The most rows whose tokens keep the gap even when a step is slow, and the tokens per second of all of them; 0 of both where not even one row does."""

    rows: int
    tokens_per_s: float


@dataclass(frozen=True, slots=True)
class Decision:
    """By name: each one's rate at the gap, and why those that were not chosen were not. `because`: why the winner was, as a clause."""

    winner: str
    because: str
    rates: Mapping[str, Rate]
    lost: Mapping[str, Failed]


def rate_at(profile: StepProfile, gap_s: float, most: float) -> Rate:
    """With half of what a row can keep. `most`: how many times its median a step may take that must not be too long."""
    context = profile.measured_contexts[(len(profile.measured_contexts) - 1) // 2]
    cells = [cell for cell in profile.decode if cell.context == context and cell.p50_s * most <= gap_s]
    best = max(cells, key=lambda cell: cell.rows, default=None)
    return Rate(0, 0.0) if best is None else Rate(best.rows, best.rows / best.p50_s)


def margin_of(profiles: Sequence[StepProfile]) -> float:
    """By which the server will plan. The same for all, since they were measured in turns: what disturbed one disturbed the others."""
    return margin(median(profile.guard for profile in profiles))


def decide(trials: Sequence[Trial], gap_s: float) -> Decision:
    """The most tokens per second at the gap wins; of those alike (ALIKE) the more exact one. `trials` are those that passed all gates,
    the plain export first, then from the more exact to the coarser. Where none keeps the gap, single rows decide."""
    profiles = {trial.name: trial.steps for trial in trials if trial.steps is not None}
    most = margin_of(list(profiles.values()))
    rates = {name: rate_at(profile, gap_s, most) for name, profile in profiles.items()}
    speeds = {name: rate.tokens_per_s for name, rate in rates.items()}
    hopeless = not any(speeds.values())
    if hopeless:
        speeds = {name: 1 / profile.decode[0].p50_s for name, profile in profiles.items()}
    best = max(speeds.values())
    winner = next(name for name in speeds if speeds[name] >= (1 - ALIKE) * best)
    lost = {
        name: _lost(speeds[name] / speeds[winner], winner, best * (1 - ALIKE) > speeds[name])
        for name in speeds
        if name != winner
    }
    return Decision(winner, _because(winner, speeds, hopeless, gap_s), rates, lost)


def _lost(share: float, winner: str, slower: bool) -> Failed:
    if slower:
        return Failed(Gate.RATE, f"{share:.2f} times the tokens per second of {winner}")
    return Failed(
        Gate.RATE, f"{share:.2f} times the tokens per second of {winner}, which is no difference; {winner} is more exact"
    )


def _because(winner: str, speeds: Mapping[str, float], hopeless: bool, gap_s: float) -> str:
    within = f"no candidate keeps a gap of {format_duration(gap_s)}, and of single rows" if hopeless else (
        f"at a gap of {format_duration(gap_s)}"
    )  # fmt: skip
    if winner != PLAIN.name:
        plain = speeds[PLAIN.name]
        return f"{within} it generates {speeds[winner] / plain:.2f} times the tokens per second of the plain export" if plain else (
            f"it keeps a gap of {format_duration(gap_s)}, which the plain export does not"
        )  # fmt: skip
    if len(speeds) == 1:
        return "no other candidate passed all gates"
    return f"{within} none of the others that passed all gates generates clearly more tokens per second"
