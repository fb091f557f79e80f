"""The terminal: progress while a run goes on, and the summary at its end. Decides nothing."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from optimizer.job import Outcome
from optimizer.ladder.page import Table, short
from optimizer.ladder.trial import Trial
from optimizer.report import choice, longest, slo_warning
from optimizer.run import Done
from optimizer.runs import Verdict
from server.contract.durations import format_duration
from server.contract.layout import VersionFiles
from server.contract.text import TextCost
from server.intake.timer import now

_QUIET_S = 10.0


class Terminal:
    """A live line on a terminal; plain lines, at most one in ten seconds within a stage, elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        self._live = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task: TaskID | None = None
        self._stage = ""
        self._began_at = self._said_at = now()

    def __enter__(self) -> Terminal:
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._live.stop()

    def begin(self, stage: str) -> None:
        """Satisfies run.Display."""
        self._stage, self._began_at, self._said_at = stage, now(), now()
        if self._task is not None:
            self._live.remove_task(self._task)
        self._task = self._live.add_task(stage)

    def step(self, what: str, done: int, total: int) -> None:
        """Satisfies run.Display."""
        text = f"{self._stage}: {what}" + (f" ({done} of {total} done)" if total > 1 else "")
        if self._task is not None:
            self._live.update(self._task, description=escape(text))
        if not self._console.is_terminal and now() - self._said_at > _QUIET_S:
            self._said_at = now()
            self._print(f"        … {text}, {now() - self._began_at:.0f} s")

    def end(self, done: Done) -> None:
        """Satisfies run.Display."""
        if self._task is not None:
            self._live.remove_task(self._task)
            self._task = None
        mark = "[green]ok[/]  " if done.result.passed else "[red]FAIL[/]"
        time = "  cached" if done.reused else f"{now() - self._began_at:6.1f} s"
        self._print(f"{mark} {done.stage.name:<7}{time}  {escape(done.result.note)}")

    def judged(self, trial: Trial) -> None:
        """Satisfies ladder.climb.Watcher."""
        self.told(trial.name, trial.failed is None, progress_of(trial))

    def told(self, name: str, passed: bool, note: str) -> None:
        """Satisfies decoder.climb.Watcher."""
        if self._task is not None:
            self._live.remove_task(self._task)
            self._task = None
        mark = "[green]ok[/]  " if passed else "[yellow]out[/] "
        self._print(f"{mark} {escape(name)}  {now() - self._began_at:6.1f} s  {escape(note)}")

    def _print(self, text: str) -> None:
        self._console.print(text, highlight=False, soft_wrap=True)


def progress_of(trial: Trial) -> str:
    """How far a candidate came, in a line."""
    if trial.failed is not None:
        return f"{trial.failed.gate.value}: {trial.failed.reason}"
    if trial.fallback is not None:
        return f"{trial.candidate.backend} has a fallback"
    if trial.measured is not None:
        return "passed all gates, measured in full"
    look = trial.examined.look if trial.examined is not None else None
    ratios = ", ".join(f"{ratio:.2f} at {batch}" for batch, ratio in (look or {}).items())
    return f"right; times the plain export's speed at a first look: {ratios}"


def print_outcome(console: Console, outcome: Outcome) -> None:
    """Verdict, figures, and what to do next."""
    if outcome.version is None:
        _print_rejection(console, outcome)
        return
    at = f"version {outcome.version.version}"
    if outcome.verdict is Verdict.UNCHANGED:
        same = "comes from the same source, settings and tools; nothing to do"
        console.print(f"\n[green]unchanged[/]: {at} of {outcome.name} {same}")
    else:
        console.print(f"\n[green]published[/] {at} of [bold]{outcome.name}[/]")
    for name, value in _figures(outcome, outcome.version):
        console.print(f"  {name:<13} {escape(value)}", highlight=False, soft_wrap=True)
    warning = slo_warning(outcome.wants, outcome.version)
    if warning:
        console.print(f"[bold red]WARNING[/]: {escape(warning)}", highlight=False, soft_wrap=True)
    if outcome.candidates is not None:
        _print_candidates(console, outcome.candidates)
    console.print(f"next: ferry serve {repository_flag(outcome.version)}".rstrip(), highlight=False, soft_wrap=True)


def _print_candidates(console: Console, table: Table) -> None:
    print_table(console, table.sentence, short(table))
    for sentence in table.left_out:
        console.print(f"  {escape(sentence)}", highlight=False, soft_wrap=True)


def print_table(console: Console, sentence: str, lines: Sequence[Sequence[str]]) -> None:
    """The decision, and a line for each candidate; the last column, the verdict, is as wide as it is."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]) - 1)]
    console.print(f"\n{escape(sentence)}", highlight=False, soft_wrap=True)
    for *cells, verdict in lines:
        text = "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        console.print(f"  {escape(text)}  {escape(verdict)}", highlight=False, soft_wrap=True)


def _print_rejection(console: Console, outcome: Outcome) -> None:
    rejection = outcome.execution.rejection if outcome.execution else None
    assert rejection is not None, "no version means a rejection"
    console.print(f"\n[bold red]not published[/]: {outcome.name} failed at {rejection.stage.name}", highlight=False)
    console.print(escape(rejection.result.note), highlight=False, soft_wrap=True)
    console.print(f"report: {outcome.report}", highlight=False, soft_wrap=True)


def _figures(outcome: Outcome, version: VersionFiles) -> list[tuple[str, str]]:
    chosen, length = choice(outcome.wants, version), longest(version.manifest)
    profile = chosen.profile
    found = {check.name: check.detail for check in version.manifest.checks}
    lengths = (profile.measured_lengths[0], length) if length else (0,)
    one_row = ", ".join(format_duration(profile.predict(1, n)) + (f" at length {n}" if n else "") for n in lengths)
    rates = ", ".join(f"{profile.peak_rate(n):,.0f} rows/s" + (f" at length {n}" if n else "") for n in lengths)
    place = chosen.placement
    return [
        ("objective", format_duration(outcome.wants.slo_s)),
        ("answers", found.get("parity") or found.get("answers") or found.get("original", "not compared with an original")),
        ("score", found.get("score", "none given")),
        ("p50 at 1 row", one_row),
        ("best rate", rates),
        *([("text", _text_line(profile.text))] if profile.text else []),
        ("placement", f"{place.instances} batch(es) at a time, {place.threads} thread(s) each ({chosen.why})"),
        ("max rows", str(version.manifest.max_rows)),
        ("version", str(version.folder)),
        ("report", str(outcome.report)),
    ]


def _text_line(cost: TextCost) -> str:
    return f"{cost.token_s * 1e6:.3g} µs per token: {format_duration(cost.text_s)} per text and {cost.byte_s * 1e9:.3g} ns per byte"


def repository_flag(version: VersionFiles) -> str:
    """What `ferry serve` needs to find the version."""
    repository = version.folder.parent.parent
    return "" if str(repository) == "model_repository" else f"--repository {repository}"
