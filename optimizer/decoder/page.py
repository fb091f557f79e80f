"""The report of a decoder's run: what was decided and on which figures, as a page, as JSON and as lines for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jinja2

from optimizer.decoder.checkpoint import Checkpoint
from optimizer.decoder.climb import Climbed
from optimizer.decoder.trial import Trial
from optimizer.pareto import Point, pareto_plot
from server.contract.durations import format_duration
from server.contract.layout import write_json
from server.contract.wants import Wants

_TEMPLATE = "decoder.html.j2"
_FOLDER = Path(__file__).resolve().parent.parent
_QUALITY = "the original's likeliest token"


@dataclass(frozen=True, slots=True)
class Story:
    """All that is known at the end of a run."""

    name: str
    command: str
    runtime: str
    wants: Wants
    gap_s: float
    checkpoint: Checkpoint
    climbed: Climbed


@dataclass(frozen=True, slots=True)
class Entry:
    """A candidate as the table shows it; None where it did not come so far. `rows` and `tokens_per_s`: the most that keep the gap;
    `row_s`: a token of a single row. `gate` None: it was published."""

    name: str
    why: str
    note: str
    n_bytes: int | None
    memory_bytes: int | None
    row_s: float | None
    rows: int | None
    tokens_per_s: float | None
    perplexity: float | None
    top1: float | None
    kl: float | None
    worst_kl: float | None
    gate: str | None
    reason: str
    seconds: float

    @property
    def verdict(self) -> str:
        """In words."""
        return "published" if self.gate is None else f"{self.gate}: {self.reason}"


def entries(story: Story) -> list[Entry]:
    """All candidates, the plain export first."""
    return [_entry(trial, story) for trial in story.climbed.trials]


def _entry(trial: Trial, story: Story) -> Entry:
    decision, likeness, failed = story.climbed.decision, trial.likeness, trial.failed
    rate = None if decision is None else decision.rates.get(trial.name)
    return Entry(
        name=trial.name,
        why=trial.candidate.why,
        note=trial.note,
        n_bytes=trial.n_bytes,
        memory_bytes=trial.memory_bytes,
        row_s=None if trial.steps is None else trial.steps.decode[0].p50_s,
        rows=None if rate is None else rate.rows,
        tokens_per_s=None if rate is None else rate.tokens_per_s,
        perplexity=None if likeness is None else likeness.perplexity,
        top1=None if likeness is None else likeness.top1,
        kl=None if likeness is None else likeness.kl,
        worst_kl=None if likeness is None else likeness.worst_kl,
        gate=None if failed is None else failed.gate.value,
        reason="" if failed is None else failed.reason,
        seconds=sum(line.seconds for line in trial.lines),
    )


def headline(story: Story) -> str:
    """The verdict in one sentence."""
    decision = story.climbed.decision
    if decision is None:
        return f"{story.name} was not published: its plain export failed, and that is the safe version."
    rate = decision.rates[decision.winner]
    keeps = (
        f"{rate.rows} answers at a time keep the gap, {rate.tokens_per_s:,.0f} tokens per second together"
        if rate.rows
        else f"NOT EVEN ONE ANSWER KEEPS the gap of {format_duration(story.gap_s)} on this machine"
    )
    return f"{story.name} was published as {decision.winner}, because {decision.because}: {keeps}."


def short(story: Story) -> list[Sequence[str]]:
    """Lines of text cells for a terminal, a heading first."""
    head = ("candidate", "MB", "a row's token", "rows", "tokens/s", "perplexity", "top-1", "verdict")
    return [head, *(_cells(one) for one in entries(story))]


def _cells(one: Entry) -> Sequence[str]:
    return (
        one.name,
        "" if one.n_bytes is None else f"{one.n_bytes / 1e6:.2f}",
        "" if one.row_s is None else f"{one.row_s * 1e3:.3g} ms",
        "" if one.rows is None else str(one.rows),
        "" if one.tokens_per_s is None else f"{one.tokens_per_s:,.0f}",
        "" if one.perplexity is None else f"{one.perplexity:.3f}",
        "" if one.top1 is None else f"{one.top1:.2%}",
        one.verdict,
    )


def write_report(path: Path, story: Story) -> None:
    """One self-contained HTML file."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    environment.filters["duration"] = format_duration
    path.write_text(environment.get_template(_TEMPLATE).render(**_page(story)), encoding="utf-8")


def write_data(path: Path, story: Story) -> None:
    """The same for programs: one JSON object."""
    decision = story.climbed.decision
    data = {
        "name": story.name,
        "command": story.command,
        "headline": headline(story),
        "published": None if decision is None else decision.winner,
        "objective_s": story.wants.slo_s,
        "gap_s": story.gap_s,
        "compared_on": story.climbed.reference,
        "candidates": [asdict(entry) for entry in entries(story)],
        "lineage": [asdict(line) for line in _lines(story)],
    }
    write_json(path, data)


def _page(story: Story) -> dict[str, Any]:
    decision, table = story.climbed.decision, entries(story)
    winner = None if decision is None else story.climbed.winner
    points = [
        Point(one.name, one.tokens_per_s, one.top1, one.gate is None)
        for one in table
        if one.tokens_per_s is not None and one.top1 is not None
    ]
    return {
        "name": story.name,
        "command": story.command,
        "runtime": story.runtime,
        "headline": headline(story),
        "slo": format_duration(story.wants.slo_s),
        "gap": format_duration(story.gap_s),
        "rejected": decision is None,
        "compared_on": story.climbed.reference,
        "entries": table,
        "generation": story.checkpoint.generation,
        "architecture": story.checkpoint.architecture,
        "pareto": pareto_plot(points, _QUALITY, "tokens/s within the gap") if points else "",
        "steps": None if winner is None else winner.steps,
        "lines": _lines(story),
    }


def _lines(story: Story) -> Sequence[Any]:
    trial = story.climbed.trials[0] if story.climbed.decision is None else story.climbed.winner
    return trial.lines
