"""The table of candidates, for the report, its JSON and the terminal. Figures and words; no layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from optimizer.checks.agreement import Agreement
from optimizer.ladder.candidate import PLAIN
from optimizer.ladder.climb import Climbed
from optimizer.ladder.trial import Trial
from optimizer.pareto import Point
from server.contract.profile import Profile
from server.contract.wants import Wants


@dataclass(frozen=True, slots=True)
class OneRow:
    """Seconds of a batch of one row at the longest length."""

    p50_s: float
    p95_s: float
    p99_s: float


@dataclass(frozen=True, slots=True)
class Entry:
    """A candidate as the table shows it; None where it did not come so far. `rate`: rows per second within the objective, averaged
    over lengths, `share` what that is of the best one's, each length counting alike; `quality`: score, or mean cosine of the output that is least alike. `in_turns`: how many times the rate
    of the first of those that were measured again in turns. `gate` None: it was published."""

    name: str
    backend: str
    steps: tuple[str, ...]
    why: str
    n_bytes: int | None
    memory_bytes: int | None
    one_row: OneRow | None
    placement: str | None
    rate: float | None
    share: float | None
    quality: float | None
    worst_cosine: float | None
    agreement: Agreement | None
    in_turns: float | None
    gate: str | None
    reason: str
    notes: tuple[str, ...]
    seconds: float

    @property
    def verdict(self) -> str:
        """In words."""
        return "published" if self.gate is None else f"{self.gate}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Table:
    """All candidates, the plain export first. `sentence`: the decision; `quality`: what that column holds; `duel`: the part of the
    sentence that says how finalists came out that were measured again in turns, "" where it was clear without. `left_out`: what was
    not tried, and why, in sentences."""

    sentence: str
    quality: str
    entries: tuple[Entry, ...]
    duel: str = ""
    left_out: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        entries = [asdict(entry) for entry in self.entries]
        return {
            "decision": self.sentence,
            "quality": self.quality,
            "duel": self.duel,
            "left_out": list(self.left_out),
            "candidates": entries,
        }

    @property
    def compared(self) -> list[tuple[str, Agreement]]:
        """Candidates whose answers were compared with the original's, by name."""
        return [(one.name, one.agreement) for one in self.entries if one.agreement is not None]

    def points(self) -> list[Point]:
        """Of those that were measured, for the plot: the rate, or where none keeps the objective that of single rows."""
        known = [one for one in self.entries if one.quality is not None and one.rate is not None and one.one_row is not None]
        hopeless = not any(one.rate for one in known)
        return [
            Point(one.name, 1 / one.one_row.p50_s if hopeless else one.rate, one.quality, one.gate is None)
            for one in known
            if one.one_row is not None and one.rate is not None and one.quality is not None
        ]


def table(climbed: Climbed, wants: Wants, max_rows: int, plain_score: float | None) -> Table:
    """`plain_score`: what the plain export scored, where there is a score."""
    quality = "agreement (mean cosine)" if plain_score is None else "score"
    sentence = f"Published: {climbed.decision.winner}, because {climbed.decision.because}"
    entries = tuple(_entry(trial, climbed, wants, max_rows, plain_score) for trial in climbed.trials)
    duel = "" if climbed.duel is None else climbed.duel.note
    return Table(f"{sentence} ({duel})" if duel else sentence, quality, entries, duel, climbed.left_out)


def short(table: Table) -> list[Sequence[str]]:
    """Lines of text cells for a terminal, a heading first."""
    lines: list[Sequence[str]] = [("candidate", "MB", "p99 of a row", "rate", "share", table.quality, "verdict")]
    for one in table.entries:
        size = "" if one.n_bytes is None else f"{one.n_bytes / 1e6:.2f}"
        p99 = "" if one.one_row is None else f"{one.one_row.p99_s * 1e3:.3g} ms"
        rate = "" if one.rate is None else f"{one.rate:,.0f}/s"
        share = "" if one.share is None else f"{one.share:.2f}"
        lines.append((one.name, size, p99, rate, share, "" if one.quality is None else f"{one.quality:.5f}", one.verdict))
    return lines


def _entry(trial: Trial, climbed: Climbed, wants: Wants, max_rows: int, plain_score: float | None) -> Entry:
    candidate, failed, graph = trial.candidate, trial.failed, trial.graph
    profile = _profile(trial, wants, max_rows)
    agreement = None if trial.examined is None else trial.examined.agreement
    return Entry(
        name=trial.name,
        backend=candidate.backend,
        steps=tuple(str(step) for step in candidate.steps),
        why=candidate.why,
        n_bytes=None if graph is None else graph.n_bytes,
        memory_bytes=trial.memory_bytes,
        one_row=None if profile is None else _one_row(profile),
        placement=None if profile is None else str(profile.placement),
        rate=climbed.decision.rates.get(trial.name),
        share=climbed.decision.shares.get(trial.name),
        quality=_quality(trial, plain_score),
        worst_cosine=None if agreement is None else agreement.least.cosine_worst,
        agreement=agreement,
        in_turns=None if climbed.duel is None else climbed.duel.rates.get(trial.name),
        gate=None if failed is None else failed.gate.value,
        reason="" if failed is None else failed.reason,
        notes=() if graph is None else graph.notes,
        seconds=sum(line.seconds for line in trial.lines),
    )


def _quality(trial: Trial, plain_score: float | None) -> float | None:
    """The plain export agrees by its own check."""
    if trial.candidate is PLAIN:
        return 1.0 if plain_score is None else plain_score
    examined = trial.examined
    if examined is None:
        return None
    if plain_score is not None:
        return examined.scores[0] if examined.scores else None
    return None if examined.agreement is None else examined.agreement.least.cosine_mean


def _profile(trial: Trial, wants: Wants, max_rows: int) -> Profile | None:
    if trial.measured is None:
        return None
    profiles = trial.measured.profiles
    return profiles.choose(wants, max_rows, profiles.device.cores).profile


def _one_row(profile: Profile) -> OneRow:
    longest = profile.measured_lengths[-1]
    cell = next(cell for cell in profile.cells if (cell.rows, cell.length) == (profile.measured_rows[0], longest))
    return OneRow(cell.p50_s, cell.p95_s, cell.p99_s)
