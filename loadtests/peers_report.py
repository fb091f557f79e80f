"""A comparison with peers for people: the table, the page, and the README's section between its markers.

`python -m loadtests.peers_report FILE --readme README.md` writes the section anew. Nothing is measured here.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from loadtests.bars import Bar, bar_chart
from loadtests.errors import LoadTestError
from loadtests.peers.summary import FERRY, Line, echo_per_s, limits, lines, wins
from loadtests.report import machine_told, markdown, number, read_json, table, with_section

_VOID = "VOID"
_REASON_ENDS = 60, 120


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the README's section, the page, or both; 0, or 1 after a message on stderr."""
    parser = argparse.ArgumentParser("python -m loadtests.peers_report", description=__doc__)
    parser.add_argument("file", type=Path, help="a peers-*.json file")
    parser.add_argument("--readme", type=Path, help="file whose section between the markers is written anew")
    parser.add_argument("--html", type=Path, help="page to write")
    options = parser.parse_args(arguments)
    try:
        content = read(options.file)
        print(text(content))
        if options.html is not None:
            write_html(options.html, content)
        if options.readme is not None:
            options.readme.write_text(with_section(options.readme.read_text(), "peers", section(content, options.file.name)))
    except LoadTestError as error:
        print(f"peers-report: {error}", file=sys.stderr)
        return 1
    return 0


def read(file: Path) -> dict[str, Any]:
    """A result's content. Raises BadInput."""
    return read_json(file, {"peers": "loadtests.bench_peers"})


def text(content: Mapping[str, Any]) -> str:
    """The table for a terminal, then what did not run and where others are ahead."""
    header, cells = _cells(content)
    return "\n".join([table(header, cells), *_notes(content)])


def section(content: Mapping[str, Any], file: str) -> str:
    """The README's section, markers not included."""
    header, cells = _cells(content)
    began = (
        f"{machine_told(content['environment'])}; medians of {len(content['rounds'])} interleaved rounds, one server running "
        f"at a time, the same model files and the same client ({content['options']['connections']} connections) for all, every "
        f"server checked for right answers first. Again: `{content['command']}`, or `make bench-peers`. Every round, version and setting, and plots: "
        f"[{file}](loadtests/results/{file}) and the page beside it."
    )
    return "\n".join([began, "", *markdown(header, cells), "", *_notes(content)])


def write_html(file: Path, content: Mapping[str, Any]) -> Path:
    """Write the page and return its path."""
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined)
    header, cells = _cells(content)
    page = environment.get_template("peers.html.j2").render(
        content=content, header=header, cells=cells, notes=_notes(content), plots=[Markup(one) for one in plots(content)]
    )
    file.write_text(page)
    return file


def plots(content: Mapping[str, Any]) -> list[str]:
    """A bar chart for each figure."""
    found, in_process = lines(content), limits(content)
    first = next(iter(content["models"]))
    charts = []
    for model in content["models"]:
        bars = [_bar(one, one.per_s[model], number(one.per_s[model])) for one in found]
        if model == first:  # in process it is so fast that no other bar would be seen
            limit = Bar("echo, no model", echo_per_s(content), number(echo_per_s(content)), "grey")
        else:
            limit = Bar("in process, no server", in_process[model], number(in_process[model]), "grey")
        charts.append(bar_chart(f"{model}: answers per second", [*bars, limit]))
    charts.append(bar_chart(f"{first}: CPU us per request", [_bar(one, one.cpu_us, number(one.cpu_us)) for one in found]))
    for factor in _factors(found):
        bars = [_bar(one, one.goodput.get(factor), _goodput(one, factor)) for one in found]
        slo = content["slo_ms"][first]
        charts.append(bar_chart(f"{first}: share answered within {slo:g} ms at {factor} x the server's own maximum", bars))
    charts.append(bar_chart("Idle memory, MB", [_bar(one, one.idle_mb, number(one.idle_mb)) for one in found]))
    charts.append(
        bar_chart("Cold start to the first right answer, s", [_bar(one, one.cold_s, number(one.cold_s, 1)) for one in found])
    )
    return charts


def _bar(one: Line, value: float | None, told: str) -> Bar:
    missing = told if told == _VOID else "did not run"
    return Bar(one.label, value, told if value is not None else missing, "green" if one.name == FERRY else "blue")


def _factors(found: Sequence[Line]) -> list[str]:
    return list(dict.fromkeys(factor for one in found for factor in one.goodput))


def _cells(content: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    found, in_process = lines(content), limits(content)
    first, *others = content["models"]
    factors = _factors(found)
    header = ["server", f"{first} req/s", "CPU us/req", "p50 ms, 1 conn"]
    if factors:
        header.append(f"goodput at {' / '.join(factors)} x")
    header += [f"{model} req/s (of limit)" for model in others] + ["idle MB", "cold start s"]
    cells = []
    for one in found:
        row = [f"{one.label}{_version(content, one)}", number(one.per_s[first]), number(one.cpu_us), number(one.alone_ms, 2)]
        if factors:
            row.append(" / ".join(_goodput(one, factor) for factor in factors))
        row += [_with_share(one, model) for model in others]
        cells.append([*row, number(one.idle_mb), number(one.cold_s, 1)])
    blank = [""] * (3 if factors else 2)
    cells.append(["echo, no model", number(echo_per_s(content)), *blank, *[""] * len(others), "", ""])
    limit = [number(in_process[model]) for model in others]
    cells.append(["in process, no server", number(in_process[first]), *blank, *limit, "", ""])
    return header, cells


def _goodput(one: Line, factor: str) -> str:
    n_void = one.n_void.get(factor, 0)
    if n_void and one.goodput[factor] is None:
        return _VOID
    return number(one.goodput.get(factor), 2) + ("*" if n_void else "")


def _version(content: Mapping[str, Any], one: Line) -> str:
    """The package's name too, where the label does not say it."""
    package, version = next(iter(content["peers"][one.name]["versions"].items()), (None, None))
    if package is None:
        return ""
    return (
        f" {version}"
        if package.startswith(one.label.split()[0].lower()) and "+" not in one.label
        else f" ({package} {version})"
    )


def _with_share(one: Line, model: str) -> str:
    """Rate and share of the in-process limit, and the rate of binary tensors where they were sent too."""
    share = one.share[model]
    if share is None:
        return "-"
    binary = one.binary_per_s[model]
    return f"{number(one.per_s[model])} ({share:.2f})" + (f", binary {number(binary)}" if binary is not None else "")


def _notes(content: Mapping[str, Any]) -> list[str]:
    first, found = next(iter(content["models"])), lines(content)
    notes = [f"CPU, p50, memory and cold start are those with {first}."]
    if first in content["slo_ms"] and _factors(found):
        notes.append(
            f"Goodput: share of Poisson arrivals at that multiple of the server's own maximum that was answered within "
            f"{content['slo_ms'][first]:g} ms."
        )
    if any(n for one in found for n in one.n_void.values()):
        notes.append("*: without the rounds in which the load generator sent more than 1 % late; VOID: in every round.")
    ahead = [f"{one.figure}: {', '.join(one.ahead)}" for one in wins(content)]
    if ahead:
        notes.append(f"Ahead of ferry by 5 % or more: {'; '.join(ahead)}.")
    for one in found:
        for model, why in one.reasons.items():
            notes.append(f"{one.label}{f', {model}' if model else ''}: {_short(why)}")
    return [line for note in notes for line in (note, "")][:-1]


def _short(why: str) -> str:
    """A reason on one line, its beginning and its end; the file holds all of it."""
    line, (first, last) = " ".join(why.split()), _REASON_ENDS
    return line if len(line) <= first + last else f"{line[:first]} … {line[-last:]}"


if __name__ == "__main__":
    sys.exit(main())
