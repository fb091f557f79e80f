"""The comparison of optimizers for people: the table, and a document's section between its markers. Nothing is measured here.

`python -m loadtests.optimizers_report FILE --doc docs/optimizers-compared.md` writes the section anew.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from loadtests.errors import LoadTestError
from loadtests.optimizers.claims import FERRY, OPENVINO, PLAIN, judged
from loadtests.optimizers.noise import twins
from loadtests.report import machine_told, markdown, number, read_json, table, with_section
from loadtests.verdicts import verdict_lines, verdict_table

Content = Mapping[str, Any]
_HEADER = (
    "model, version", "backend", "MB", "within the SLO/s", "/ plain", "closed loop/s", "/ plain", "cosine mean / worst", "same neighbour",
    "score", "quality", "made in s",
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables, and write a document's section if asked; 0, or 1 after a message on stderr."""
    parser = argparse.ArgumentParser("python -m loadtests.optimizers_report", description=__doc__)
    parser.add_argument("file", type=Path, help="an optimizers-*.json file")
    parser.add_argument("--doc", type=Path, help="file whose section between the markers is written anew")
    options = parser.parse_args(arguments)
    try:
        content = read(options.file)
        print(text(content))
        if options.doc is not None:
            options.doc.write_text(with_section(options.doc.read_text(), "optimizers", section(content, options.file.name)))
    except (LoadTestError, OSError) as error:
        print(f"optimizers-report: {error}", file=sys.stderr)
        return 1
    return 0


def read(file: Path) -> dict[str, Any]:
    """A result's content. Raises BadInput."""
    return read_json(file, {"optimizers": "loadtests.bench_optimizers"})


def text(content: Content) -> str:
    """For a terminal: what was found, what did not work, and which claims hold."""
    return "\n".join([table(_HEADER, _lines(content)), "", *_notes(content), "", verdict_table(judged(content))])


def section(content: Content, file: str) -> str:
    """For a document, markers not included."""
    began = (
        f"{machine_told(content['environment'])}: `{content['command']}`. "
        f"Everything that was measured: [{file}](../loadtests/results/{file})."
    )
    versions = "; ".join(
        f"{tool['label']}: {', '.join(f'{name} {version}' for name, version in tool['versions'].items())}"
        for tool in content["tools"].values()
    )
    notes = "\n".join(f"- {one}" for one in _notes(content))
    parts = [
        began,
        f"{versions}.",
        "\n".join(markdown(_HEADER, _lines(content))),
        notes,
        "\n".join(verdict_lines(judged(content))),
    ]
    return "\n\n".join(part for part in parts if part)


def _lines(content: Content) -> list[list[str]]:
    return [_line(f"{name}, {key}", one) for name, told in content["models"].items() for key, one in told["versions"].items()]


def _line(label: str, one: Mapping[str, Any]) -> list[str]:
    quality = one["quality"]
    agreed = quality["agreement"]
    return [
        label, one["backend"], f"{one['bytes'] / 1e6:.2f}",
        number(one["rate"], 1), number(one["rate_ratio"], 2),
        number(statistics.median(sample["per_s"] for sample in one["closed_loop"]), 1), number(one["closed_loop_ratio"], 2),
        f"{agreed['mean_cosine']:.5f} / {agreed['worst_cosine']:.5f}", number(agreed["same_neighbour"], 3),
        number(quality["score"], 4), "FAILS" if quality["failings"] else "passes",
        "" if one["made"] is None else number(one["made"]["seconds"]),
    ]  # fmt: skip


def _notes(content: Content) -> list[str]:
    """What a reader must know beside the figures: what fails, on which terms ferry serves it, what did not run, what a tool does not do."""
    notes = []
    for name, told in content["models"].items():
        notes += [f"{name}: {one.told}." for one in twins(told["versions"])]
        notes += [f"{name}: {note}" for note in _other_libraries(told["versions"])]
        for key, one in told["versions"].items():
            if one["rate"] is None:
                notes.append(f"{name}, {key}: too slow in the closed loop to be searched for its rate within the objective.")
            if one["limited"]:
                notes.append(
                    f"{name}, {key}: the load generator could not keep up: its rate within the objective may be higher."
                )
            if one["quality"]["failings"]:
                notes.append(f"{name}, {key}: fails in quality: {'; '.join(one['quality']['failings'])}.")
            if one["refused"]:
                notes.append(f"{name}, {key}: {_terms(one)}, as ferry refused it otherwise: {one['refused'][0]}")
        notes += [f"{name}, {key}: not served: {why}" for key, why in told["reasons"].items()]
    return [*notes, *(f"{tool['label']}: {one}" for tool in content["tools"].values() for one in tool["cannot"])]


def _other_libraries(versions: Mapping[str, Any]) -> list[str]:
    """What a version that is the plain export's very file gains is no optimizer's work. Of another file it is told by a rival alone."""
    plain, ours = versions[PLAIN], versions[FERRY]
    notes = [
        f"{key} is the file of {PLAIN}, on {one['backend']} instead of {plain['backend']}: what differs is the library and its precision alone."
        for key, one in versions.items()
        if one["sha256"] == plain["sha256"] and one["backend"] != plain["backend"]
    ]  # fmt: skip
    beside = any(one["tool"] == OPENVINO for one in versions.values())
    if ours["backend"] != plain["backend"] and ours["sha256"] != plain["sha256"] and not beside:
        notes.append(
            f"{FERRY} is served by {ours['backend']}, and no plain export was: how much of its gain is that library's is not known."
        )
    return notes


def _terms(one: Mapping[str, Any]) -> str:
    return "served in batches of equal lengths" if one["max_rows"] > 1 else "served one row at a time"


if __name__ == "__main__":
    sys.exit(main())
