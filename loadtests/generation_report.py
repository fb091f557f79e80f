"""The benchmark of generation for people: tables, verdicts, and a document's section between its markers. Nothing is measured here.

`python -m loadtests.generation_report FILE --doc docs/generation-engine.md` writes the section anew.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtests.errors import LoadTestError
from loadtests.generation.claims import counts, judged, longest_gaps
from loadtests.generation.joining import Joining
from loadtests.report import machine_told, markdown, number, read_json, table, with_section
from loadtests.verdicts import verdict_lines, verdict_table

KIND = "generation"
Content = Mapping[str, Any]
Cells = tuple[Sequence[str], list[list[str]]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables, and write a document's section if asked; 0, or 1 after a message on stderr."""
    parser = argparse.ArgumentParser("python -m loadtests.generation_report", description=__doc__)
    parser.add_argument("file", type=Path, help="a bench-generation-*.json file")
    parser.add_argument("--doc", type=Path, help="file whose section between the markers is written anew")
    options = parser.parse_args(arguments)
    try:
        content = read(options.file)
        print(text(content))
        if options.doc is not None:
            options.doc.write_text(with_section(options.doc.read_text(), KIND, section(content, options.file.name)))
    except (LoadTestError, OSError) as error:
        print(f"generation-report: {error}", file=sys.stderr)
        return 1
    return 0


def read(file: Path) -> dict[str, Any]:
    """A result's content. Raises BadInput."""
    return read_json(file, {KIND: "loadtests.bench_generation"})


def text(content: Content) -> str:
    """For a terminal: what was found, and which claims hold."""
    return "\n\n".join([*(table(*cells(content[name])) for name, cells in _CELLS.items() if name in content), verdict_table(judged(content))])  # fmt: skip


def section(content: Content, file: str) -> str:
    """For a document, markers not included."""
    options, work = content["options"], content["work"]
    began = (
        f"{machine_told(content['environment'])}: `{content['command']}`. "
        f"Everything that was measured: [{file}](../loadtests/results/{file}). Medians of {options['rounds']} rounds where a scene says nothing else; "
        f"{options['slots']} slots, {options['threads']} threads; {work['requests']} requests at once that want {work['tokens']:,} tokens, of which static batches "
        f"calculate {work['row_step_ceiling']:.2f} times as many rows."
    )
    parts = [began]
    for name, cells in _CELLS.items():
        if name in content:
            parts += [*_notes(name, content), "\n".join(markdown(*cells(content[name])))]
    parts += [f"Failed: {scene}: {why}" for scene, why in content["failed"].items()]
    return "\n\n".join([*parts, "\n".join(verdict_lines(judged(content)))])


def _backlog(scene: Content) -> Cells:
    lines = [
        [name, number(statistics.median(found)), f"{scene['ferry_over'][name]:.2f}", f"{scene['same_answers'][name]:.3f}"]
        for name, found in scene["tokens_per_s"].items()
    ]
    return ("all at once", "tokens/s", "ferry ÷ it", "same answers"), lines


def _chosen(scene: Content) -> Cells:
    one, per_s = scene["candidate"], {name: statistics.median(found) for name, found in scene["tokens_per_s"].items()}
    header = (
        "what ferry optimize chose",
        "tokens/s",
        "plain export",
        "times as fast",
        "times smaller",
        "same likeliest token",
        "KL nats",
    )
    cells = [
        one["name"], number(per_s["chosen"]), number(per_s["plain"]), f"{scene['over_plain']:.2f}", f"{scene['times_smaller']:.2f}",
        f"{one['top1']:.1%}", f"{one['kl']:.2g}",
    ]  # fmt: skip
    return header, [cells]


def _arrivals(scene: Content) -> Cells:
    keys = ("first_p50_s", "first_p95_s", "whole_p50_s")
    found = {one.value: [statistics.median(at[one.value][key] for at in scene["rounds"]) for key in keys] for one in Joining}
    header = ("as they come", "first token ms, median", "95th percentile", "whole answer ms, median")
    return header, [[name, *(number(value * 1e3) for value in values)] for name, values in found.items()]


def _gap(scene: Content) -> Cells:
    header = (
        "a long prompt among rows that decode",
        "plain step ms",
        "longest gap ms",
        "÷ plain step",
        "promise",
        "its first token ms",
    )
    promise = scene.get("objective_s")  # older results do not say which it was
    lines = []
    for at, (one, over) in enumerate(zip(scene["rounds"], longest_gaps(scene), strict=True), 1):
        kept = "-" if promise is None else "kept" if one["worst_s"] <= promise else "BROKEN"
        plain, worst, first = (number(one[key] * 1e3) for key in ("plain_s", "worst_s", "first_s"))
        lines.append([f"round {at}", plain, worst, f"{over:.2f}", kept, first])
    return header, lines


def _overload(scene: Content) -> Cells:
    header = ("load", "tokens/s that kept both objectives", "in time", "refused", "broke the gap")
    lines = [
        [f"{load} x", number(one["tokens_per_s"]), *(f"{one[key]:.1%}" for key in ("in_time", "refused", "broke_gap"))]
        for load, one in scene["loads"].items()
    ]
    return header, lines


def _company(scene: Content) -> Cells:
    """A line for each of the two, alone and together: shares of all requests, and what 99 % of the answered ones kept below. Medians of the
    rounds that count, or of all where too few do; shares of each round besides."""
    header = ("side by side", "in SLO (each round)", "refused (each round)", "p99 ms (decoder: first token)", "p99 of gaps ms", "rounds that count")  # fmt: skip
    lines = []
    for where in ("alone", "together"):
        rounds = [one[where] for one in scene["rounds"]]
        valid = [counts(one) for one in rounds]
        encoder, decoder = (
            _Rounds([one["encoder"] for one in rounds], valid),
            _Rounds([one["decoder"] for one in rounds], valid),
        )
        if where == "alone":  # each by itself: the encoder's generator is no matter of the decoder's
            decoder = _Rounds(decoder.found, [True] * len(rounds))
        lines += [
            [f"encoder {where}", encoder.share(lambda one: one["goodput_share"]), encoder.share(lambda one: one["refused"] / one["scheduled"]),
             encoder.p99(lambda one: one["latency_ms"]["p99"]), "", encoder.told],
            [f"decoder {where}", decoder.share(lambda one: one["in_slo"]), decoder.share(lambda one: one["refused"]),
             decoder.p99(lambda one: _ms(one["first_p99_s"])), decoder.p99(lambda one: _ms(one["gap_p99_s"])), decoder.told],
        ]  # fmt: skip
    return header, lines


@dataclass(frozen=True, slots=True)
class _Rounds:
    """What was found of one model in each round, and whether the round counts."""

    found: Sequence[Content]
    valid: Sequence[bool]

    @property
    def void(self) -> bool:
        return 2 * sum(self.valid) < len(self.valid)

    @property
    def told(self) -> str:
        return f"{sum(self.valid)} of {len(self.valid)}{': VOID' if self.void else ''}"

    def share(self, of: Callable[[Content], float]) -> str:
        each = ", ".join(
            f"{of(one) * 100:.1f}{'' if valid else '*'}" for one, valid in zip(self.found, self.valid, strict=True)
        )
        return f"{statistics.median(map(of, self._counting)):.1%} ({each})"

    def p99(self, of: Callable[[Content], float | None]) -> str:
        """Of the rounds in which anybody was answered."""
        known = [value for one in self._counting if (value := of(one)) is not None]
        return number(statistics.median(known)) if known else "-"

    @property
    def _counting(self) -> Sequence[Content]:
        return self.found if self.void else [one for one, valid in zip(self.found, self.valid, strict=True) if valid]


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1e3


_CELLS: Mapping[str, Callable[[Content], Cells]] = {
    "backlog": _backlog, "chosen": _chosen, "arrivals": _arrivals, "gap": _gap, "overload": _overload, "company": _company,
}  # fmt: skip


def _notes(name: str, content: Content) -> list[str]:
    """What a reader must know before the figures of a scene."""
    scene, options = content[name], content["options"]
    if name == "backlog":
        absent = "".join(f" Left out: {one}: {why}." for one, why in scene["left_out"].items())
        return [
            "ferry's figures include HTTP, a stream for each answer and their reader on the same cores; other generators run in their own process "
            "without a network. Static batches calculate every row until the longest answer of the batch ends, in waves the engine drops the rows "
            f"that have ended; only tokens that were wanted count. {_of_answers(scene)}{absent}"
        ]
    if name == "chosen":
        return [
            f"Both on one server in turns, compared on {scene['compared_on']}, with the gate of `loadtests/generation/chosen.toml`."
        ]
    if name == "arrivals":
        each = content["work"]["tokens"] / content["work"]["requests"]
        return [
            f"Poisson arrivals, {scene['rate']:.1f} requests/s, about {scene['rate'] * each:.0f} tokens/s that are wanted; batches are whoever waits."
        ]
    if name == "gap":
        return [_of_gaps(scene)]
    if name == "overload":
        return [
            f"Poisson arrivals at multiples of the capacity, {scene['capacity_per_s']:.1f} requests/s; first token within {options['slo']:g} s, gaps of {options['gap'] * 1e3:g} ms. "
            "One run of each load, by one seed: no medians."
        ]
    return [
        f"An encoder that promises {scene['encoder_slo_s'] * 1e3:g} ms on the same server, each at {scene['share']:.0%} of what it can do alone: {scene['share'] * scene['encoder_per_s']:.0f} and "
        f"{scene['decoder_rate']:.1f} requests/s. Figures with a star are of rounds whose generator sent more than 1 % of the encoder's requests late: such a "
        "round is VOID, and where fewer than half of the rounds count, so is the claim."
    ]


def _of_answers(scene: Content) -> str:
    if "same_answers_by_round" in scene:
        return "Same answers: in the round with the fewest, as ferry gave them in its first."
    text = "An earlier program wrote this file: *same answers* is of its last round alone"
    if any("transformers, continuous" in one for one in scene["tokens_per_s"]):
        text += ", and transformers' manager of continuous batching was made and stopped inside each timed run, which counts against transformers"
    return f"{text}."


def _of_gaps(scene: Content) -> str:
    over = longest_gaps(scene)
    worst = f"Longest gap ÷ a plain step: median {statistics.median(over):.2f}, worst {max(over):.2f}."
    promise = scene.get("objective_s")
    if promise is None:
        return worst
    kept = sum(one["worst_s"] <= promise for one in scene["rounds"])
    return (
        f"The model promises {promise * 1e3:g} ms between tokens, and reads a prompt that comes to rows that decode in such pieces as should keep "
        f"that; it was kept in {kept} of {len(over)} rounds. {worst}{_of_failed_tries(scene)}"
    )


def _of_failed_tries(scene: Content) -> str:
    failed = scene.get("failed_tries", [])
    return f" Made again: {len(failed)}, the first because {failed[0]}" if failed else ""


if __name__ == "__main__":
    sys.exit(main())
