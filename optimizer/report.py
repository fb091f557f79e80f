"""The page a person reads: what was decided, on which evidence, and how to do it again. Wording and layout: the template."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jinja2

from optimizer.ladder.climb import Climbed
from optimizer.ladder.page import Table, table
from optimizer.lineage import Line
from optimizer.pareto import pareto_plot
from optimizer.plot import latency_plot
from optimizer.run import Execution
from server.contract.durations import format_duration
from server.contract.layout import VersionFiles, write_json
from server.contract.manifest import Check, Manifest
from server.contract.profile import Profile
from server.contract.profiles import Chosen
from server.contract.wants import Wants

_TEMPLATE = "report.html.j2"


@dataclass(frozen=True, slots=True)
class Story:
    """All that is known at the end of a run. `version` is None when the model was rejected, `climbed` when only the plain export was
    tried."""

    name: str
    command: str
    runtime: str
    wants: Wants
    execution: Execution
    version: VersionFiles | None = None
    climbed: Climbed | None = None


@dataclass(frozen=True, slots=True)
class ParityTable:
    """Worst difference by batch (lines) and length (columns); a cell is (text, "good" | "bad" | "")."""

    outputs: Sequence[str]
    columns: Sequence[str]
    lines: Sequence[tuple[str, Sequence[tuple[str, str]]]]


def write_report(path: Path, story: Story) -> None:
    """One self-contained HTML file."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters["duration"] = format_duration
    path.write_text(environment.get_template(_TEMPLATE).render(**_page(story)), encoding="utf-8")


def write_data(path: Path, story: Story) -> None:
    """The same for programs: one JSON object. Numbers that are none (infinite) are null."""
    rejection = story.execution.rejection
    tried = candidates(story)
    data = {
        "name": story.name,
        "command": story.command,
        "headline": headline(story),
        "published": None if story.version is None else story.version.manifest.backend,
        "objective_s": story.wants.slo_s,
        "rejection": None if rejection is None else {"stage": rejection.stage.name, "reason": rejection.result.note},
        "checks": [asdict(check) for check in checks(story)],
        "ladder": None if tried is None else tried.to_json(),
        "lineage": [asdict(done.line()) for done in story.execution.done if done.artifact]
        + [asdict(line) for line in _won(story)],
    }
    write_json(path, _finite(data))


def candidates(story: Story) -> Table | None:
    """The table of candidates, where there were any."""
    if story.climbed is None:
        return None
    score = story.execution.result("score")
    measured = story.climbed.trials[0].measured
    assert measured is not None, "the plain export is measured first"
    plain_score = score.data["exported"] if score and score.data else None
    return table(story.climbed, story.wants, measured.manifest.max_rows, plain_score)


def _won(story: Story) -> Sequence[Line]:
    return story.climbed.winner.lines if story.climbed is not None else ()


def _finite(data: Any) -> Any:
    if isinstance(data, Mapping):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def headline(story: Story) -> str:
    """The verdict in one sentence."""
    rejection = story.execution.rejection
    if rejection is not None:
        return f"{story.name} was not published: the {rejection.stage.name} stage rejected it."
    assert story.version is not None
    length = longest(story.version.manifest)
    p99 = choice(story.wants, story.version).profile.predict_p99(1, length)
    at = f" of length {length}" if length else ""
    keeps = "leaves room for" if p99 < story.wants.slo_s else "ALREADY BREAKS"
    what = "" if story.climbed is None else f" as {story.climbed.winner.name}, because {story.climbed.decision.because}"
    return (
        f"{story.name} passed every check and was published{what}: one row{at} takes {format_duration(p99)} (p99), "
        f"which {keeps} the objective of {format_duration(story.wants.slo_s)}."
    )


def choice(wants: Wants, version: VersionFiles) -> Chosen:
    """The placement that a server on this machine would choose."""
    profiles = version.profiles
    assert profiles is not None, "what the optimizer makes is measured"
    return profiles.choose(wants, version.manifest.max_rows, profiles.device.cores)


def slo_warning(wants: Wants, version: VersionFiles) -> str | None:
    """Why the objective cannot be kept even by an idle server, or None."""
    length = longest(version.manifest)
    p99 = choice(wants, version).profile.predict_p99(1, length)
    if wants.slo_s >= p99:
        return None
    at = f" of length {length}" if length else ""
    return (
        f"the objective of {format_duration(wants.slo_s)} is below the p99 of a single row{at}, {format_duration(p99)}: "
        "such requests will be refused; raise --slo, shorten the inputs, or make the model smaller"
    )


def longest(manifest: Manifest) -> int:
    """The greatest length that is served; 0 without a ragged axis."""
    return manifest.ragged.longest if manifest.ragged else 0


def checks(story: Story) -> list[Check]:
    """Every gate's verdict, the rejecting one last."""
    if story.version is not None:
        return list(story.version.manifest.checks)
    return [done.result.check for done in story.execution.done if done.result.check is not None]


def parity_table(differences: Sequence[Mapping[str, Any]]) -> ParityTable:
    """Worst over all outputs, for each kind of batch and length."""
    lengths = sorted({d["length"] for d in differences if d["kind"] != "sample"})
    columns = [f"length {n}" if n else "made from samples" for n in lengths]
    batches = sorted({(d["kind"] == "padded", d["rows"]) for d in differences if d["kind"] != "sample"})
    lines = []
    for padded, rows in batches:
        chosen = [d for d in differences if d["rows"] == rows and d["kind"] == ("padded" if padded else "full")]
        label = f"{rows} row{'s' * (rows > 1)}{', padded' * padded}"
        lines.append((label, [_parity_cell([d for d in chosen if d["length"] == n]) for n in lengths]))
    outputs = sorted({d["output"] for d in differences})
    own = [d for d in differences if d["kind"] == "sample"]
    if own:
        columns, lines = [*columns, "own length"], [(label, [*cells, ("", "")]) for label, cells in lines]
        lines.append((f"{len(own) // len(outputs)} sample requests", [*[("", "")] * len(lengths), _parity_cell(own)]))
    return ParityTable(outputs, columns, lines)


def _parity_cell(differences: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    if not differences:
        return "", ""
    worst = max(differences, key=lambda d: d["excess"])
    values = [d["worst"] for d in differences]
    if None in values:
        return "NaN, shape or type", "bad"
    return f"{max(values):.1e}" if any(values) else "0", "good" if worst["excess"] <= 1 else "bad"


def _page(story: Story) -> dict[str, Any]:
    version, execution = story.version, story.execution
    parity, score = execution.result("parity"), execution.result("score")
    chosen = choice(story.wants, version) if version else None
    profile = chosen.profile if chosen else None
    tried = candidates(story)
    return {
        "name": story.name,
        "command": story.command,
        "runtime": story.runtime,
        "slo": format_duration(story.wants.slo_s),
        "headline": headline(story),
        "rejection": execution.rejection,
        "warning": slo_warning(story.wants, version) if version else None,
        "checks": checks(story),
        "manifest": version.manifest if version else None,
        "profile": profile,
        "chosen": chosen,
        "peaks": _peaks(profile) if profile else [],
        "plot": latency_plot(profile) if profile else "",
        "made_up": any(done.result.data.get("made_up_samples") for done in execution.done),
        "parity": parity_table(parity.data["differences"]) if parity and "differences" in parity.data else None,
        "score": score.data if score and score.data else None,
        "ladder": tried,
        "longest": longest(version.manifest) if version else 0,
        "pareto": pareto_plot(points, tried.quality) if tried and (points := tried.points()) else "",
        "won": _won(story),
        "stages": execution.done,
        "lines": [asdict(done.line()) for done in execution.done if done.artifact],
        "tools": _tools(execution),
    }


def _peaks(profile: Profile) -> list[tuple[int, float]]:
    return [(length, profile.peak_rate(length)) for length in profile.measured_lengths]


def _tools(execution: Execution) -> dict[str, str]:
    return dict(sorted((name, v) for done in execution.done for name, v in done.stage.tools.items()))
