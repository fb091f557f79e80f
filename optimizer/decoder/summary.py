"""What the terminal says at the end of a checkpoint's run. Decides nothing."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

from optimizer.decoder.job import Outcome
from optimizer.decoder.page import headline, short
from optimizer.display import print_table, repository_flag
from optimizer.runs import Verdict
from server.contract.durations import format_duration
from server.contract.layout import VersionFiles
from server.contract.wants import USUAL_GAP_S


def print_decoder(console: Console, outcome: Outcome) -> None:
    """Verdict, figures, and what to do next."""
    if outcome.version is None:
        _print_rejection(console, outcome)
        return
    at = f"version {outcome.version.version}"
    if outcome.verdict is Verdict.UNCHANGED:
        same = "comes from the same checkpoint, settings and tools; nothing to do"
        console.print(f"\n[green]unchanged[/]: {at} of {outcome.name} {same}", highlight=False, soft_wrap=True)
    else:
        console.print(f"\n[green]published[/] {at} of [bold]{outcome.name}[/]")
    for name, value in _figures(outcome, outcome.version):
        console.print(f"  {name:<13} {escape(value)}", highlight=False, soft_wrap=True)
    if outcome.story is not None:
        print_table(console, headline(outcome.story), short(outcome.story))
    console.print(f"next: ferry serve {repository_flag(outcome.version)}".rstrip(), highlight=False, soft_wrap=True)


def _print_rejection(console: Console, outcome: Outcome) -> None:
    assert outcome.story is not None, "a rejection is the end of a run"
    failed = outcome.story.climbed.trials[0].failed
    assert failed is not None, "the plain export failed, else something was published"
    console.print(f"\n[bold red]not published[/]: {outcome.name} failed at {failed.gate.value}", highlight=False)
    console.print(escape(failed.reason), highlight=False, soft_wrap=True)
    console.print(f"report: {outcome.report}", highlight=False, soft_wrap=True)


def _figures(outcome: Outcome, version: VersionFiles) -> list[tuple[str, str]]:
    generation, wants = version.manifest.generation, outcome.wants
    assert generation is not None, "it is a decoder"
    gap_s = USUAL_GAP_S if wants.gap_s is None else wants.gap_s
    found = {check.name: check.detail for check in version.manifest.checks}
    return [
        ("first token", f"within {format_duration(wants.slo_s)}"),
        ("each after", f"within {format_duration(gap_s)}"),
        ("answers", found.get("parity") or found["answers"]),
        ("rows", found["rows"]),
        ("longest", f"{generation.longest} tokens, prompt and answer together"),
        ("chat", "by the checkpoint's template" if generation.template else "no chat template: completions only"),
        ("version", str(version.folder)),
        ("report", str(outcome.report)),
    ]
