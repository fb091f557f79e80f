"""The benchmarks of the objective (kinds slo, overload, tuned) for people: tables from their JSON files, and a document's sections.

`python -m loadtests.slo_report FILE... --doc docs/slo-on-the-wire.md` writes the section of each file's kind anew. Nothing is measured here.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from loadtests.errors import LoadTestError
from loadtests.report import machine_told, markdown, number, read_json, table, with_section
from loadtests.verdicts import verdict_lines, verdict_table, verdicts_of

Content = Mapping[str, Any]
Cells = tuple[list[str], list[list[str]]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print each file's tables, and write a document's sections if asked; 0, or 1 after a message on stderr."""
    parser = argparse.ArgumentParser("python -m loadtests.slo_report", description=__doc__)
    parser.add_argument("files", type=Path, nargs="+", help="slo-*.json, overload-*.json, tuned-*.json")
    parser.add_argument("--doc", type=Path, help="file whose sections between the markers are written anew")
    options = parser.parse_args(arguments)
    try:
        for file in options.files:
            content = read(file)
            print(text(content))
            if options.doc is not None:
                options.doc.write_text(with_section(options.doc.read_text(), content["kind"], section(content, file.name)))
    except (LoadTestError, OSError) as error:
        print(f"slo-report: {error}", file=sys.stderr)
        return 1
    return 0


def read(file: Path) -> dict[str, Any]:
    """A result's content. Raises BadInput."""
    return read_json(file, {kind: f"loadtests.bench_{kind}" for kind in _CELLS})


def text(content: Content) -> str:
    """For a terminal: what was found, and which claims hold."""
    header, cells = _CELLS[content["kind"]](content)
    return f"{table(header, cells)}\n\n{verdict_table(verdicts_of(content))}"


def section(content: Content, file: str) -> str:
    """For a document, markers not included."""
    began = (
        f"{machine_told(content['environment'])}: `{content['command']}`. "
        f"Everything that was measured: [{file}](../loadtests/results/{file})."
    )
    header, cells = _CELLS[content["kind"]](content)
    parts = [began, *_notes(content), "\n".join(markdown(header, cells)), "\n".join(verdict_lines(verdicts_of(content)))]
    return "\n\n".join(parts)


def _slo(content: Content) -> Cells:
    """A line per model: its own rate, its capacity, and each load."""
    factors = list(next(iter(content["subjects"].values()))["loads"])
    header = ["model", "SLO ms", "offline/s", "capacity/s"]
    header += [f"in time/s at {factor} x" for factor in factors] + [f"p99 ms at {factor} x" for factor in factors]
    header += [f"refused at {factor} x" for factor in factors] + ["of them after waiting", "void"]
    cells = []
    for name, one in content["subjects"].items():
        told, loads = one["summary"], one["loads"]
        cells.append([
            name, number(one["slo_ms"]), number(told["offline_per_s"], 1), number(told["capacity_per_s"], 1),
            *(number(told["goodput_per_s"][factor], 1) for factor in factors),
            *(number(told["p99_ms"][factor], 1) for factor in factors),
            *(_share(sum(load["refused"] for load in loads[factor]), sum(load["scheduled"] for load in loads[factor])) for factor in factors),
            _after_waiting([load for some in loads.values() for load in some]),
            _void([load for some in loads.values() for load in some]),
        ])  # fmt: skip
    return header, cells


def _after_waiting(loads: Sequence[Mapping[str, Any]]) -> str:
    """Of those refused, who had waited for a quarter of the objective by then; results of before that was counted say nothing."""
    if not all("refused_after_waiting" in load for load in loads):
        return ""
    return _share(sum(load["refused_after_waiting"] for load in loads), sum(load["refused"] for load in loads))


def _overload(content: Content) -> Cells:
    """A line per round, factor and phase."""
    header = [
        "round, load, phase", "due/s", "sent/s", "in time/s", "p99 ms", "late", "refused", "failed", "timed out", "never sent", "sent late",
        "void", "RSS MB", "recovered s",
    ]  # fmt: skip
    cells = []
    for at, one in enumerate(content["rounds"]):
        for factor, episode in one.items():
            for name, phase in episode["phases"].items():
                rss = phase["most_rss"]
                cells.append([
                    f"{at + 1}, {factor} x, {name}",
                    *(number(phase[rate]) for rate in ("scheduled_per_s", "sent_per_s", "goodput_per_s")),
                    number(phase["latency_ms"]["p99"], 1),
                    *(number(phase[kind]) for kind in ("late", "refused", "failed", "timed_out", "never_sent", "sent_late_by_generator")),
                    "" if phase["generator_kept_up"] else "VOID",
                    number(None if rss is None else rss / 1e6),
                    number(episode["recovered_after_s"], 2) if name == "after" else "",
                ])  # fmt: skip
    return header, cells


def _tuned(content: Content) -> Cells:
    """A line per model and server: medians over the rounds."""
    header = ["model, server", "own maximum/s", "in time/s", "kept", "p99 ms", "refused", "void", "run as"]
    cells = []
    for model, one in content["subjects"].items():
        for name in dict.fromkeys(name for visits in one["rounds"] for name in visits):
            good = [visits[name] for visits in one["rounds"] if name in visits and visits[name]["reason"] is None]
            loads = [visit["overload"] for visit in good]
            cells.append([
                f"{model}, {name}",
                number(_median(visit["own_per_s"] for visit in good)), number(_median(load["goodput_per_s"] for load in loads)),
                number(_median(visit["overload"]["goodput_per_s"] / visit["own_per_s"] for visit in good), 2),
                number(_median(load["latency_ms"]["p99"] for load in loads), 1),
                _share(sum(load["refused"] for load in loads), sum(load["scheduled"] for load in loads)),
                _void(loads), one["ways"].get(name, "untouched"),
            ])  # fmt: skip
    return header, cells


_CELLS: Mapping[str, Callable[[Content], Cells]] = {"slo": _slo, "overload": _overload, "tuned": _tuned}


def _notes(content: Content) -> list[str]:
    """What a reader must know before the figures of this kind."""
    if content["kind"] == "slo":
        return [
            "Beyond capacity less time is left for whatever takes long, so more of the short sentences are answered: the goodput in requests grows with the "
            "overload. Work in time counts each answer by what its length costs, in requests of the mean cost."
        ]
    if content["kind"] == "overload":
        loop = content["closed_loop"]
        return [
            f"Peak: {number(loop['per_s'])} requests/s of {content['options']['rows']} rows (closed loop of {loop['connections']} connections); "
            f"{content['options']['connections']:,} independent clients; {content['normal_share']:g} of the peak before and after. "
            f"The same file in process: {number(content['in_process_rows_per_s'])} rows/s."
        ]
    if content["kind"] == "tuned":
        terms = "; ".join(
            f"{model}: {one['terms']['n_rows']} rows in a request, within {one['terms']['slo_s'] * 1e3:g} ms"
            for model, one in content["subjects"].items()
        )
        missing = [
            f"{model}, {name}: {one['sweeps'][name]['reason']}"
            for model, one in content["subjects"].items()
            for name in one["sweeps"]
            if one["sweeps"][name]["reason"] is not None
        ] + [f"{one['label']}: {one['reason']}" for one in content["peers"].values() if one["reason"] is not None]
        limits = ", ".join(f"{model}: {number(one['in_process_rows_per_s'])}" for model, one in content["subjects"].items())
        return [
            f"At {content['factor']:g} times each server's own maximum. {terms}. The same files in process, rows/s: {limits}. Who answers nothing in time "
            "counts as one answer per second, or a thousandth of the maximum, where ferry is compared with it.",
            *(" ".join(one.split()) for one in [*missing, *_failed_visits(content)]),
        ]
    return []


def _failed_visits(content: Content) -> list[str]:
    found = []
    for model, one in content["subjects"].items():
        for name in dict.fromkeys(name for visits in one["rounds"] for name in visits):
            reasons = [
                visits[name]["reason"] for visits in one["rounds"] if name in visits and visits[name]["reason"] is not None
            ]
            if reasons:
                found.append(f"{model}, {name}: {len(reasons)} of {len(one['rounds'])} visits failed: {reasons[0]}")
    return found


def _void(loads: Sequence[Mapping[str, Any]]) -> str:
    """How many loads were not what was meant, as the generator did not keep up."""
    n = sum(not one["generator_kept_up"] for one in loads)
    return f"{n} of {len(loads)}" if n else ""


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "-"


def _median(found: Iterable[float | None]) -> float | None:
    known = [one for one in found if one is not None]
    return statistics.median(known) if known else None


if __name__ == "__main__":
    sys.exit(main())
