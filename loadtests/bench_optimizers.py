"""`python -m loadtests.bench_optimizers`: `ferry optimize` beside Olive and Optimum, on the same models, served by the same server.

Every tool has an environment of its own; what comes out is uploaded to ferry, which checks and profiles it as any version. Then all versions of a
model are served side by side and asked the same requests in turns: closed loop, rate within the objective, size, quality.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from loadtests.agreed import agreement
from loadtests.bench_command import Flags, as_program, status
from loadtests.capacity import Found, capacity_values
from loadtests.child import HOST
from loadtests.environment import heading
from loadtests.errors import BadInput
from loadtests.flags import count, positive
from loadtests.lanes import Lane, Sample, measure
from loadtests.limit import Row
from loadtests.optimizers.claims import PLAIN, judged
from loadtests.optimizers.contest import Contestant, Places, Subject, prepare
from loadtests.optimizers.making import made_values, without_places
from loadtests.optimizers.quality import Quality, quality_values
from loadtests.optimizers.roster import TOOLS
from loadtests.optimizers.task import task_score
from loadtests.optimizers.tool import Tool, described
from loadtests.optimizers_report import text
from loadtests.peers import venvs
from loadtests.published import manifest
from loadtests.report import write_json
from loadtests.side_by_side import TERMS, Terms, asked, capacity, served, terms_of
from loadtests.tensors import Array
from loadtests.verdicts import verdict_values
from loadtests.wire import infer_request

_WORTH_TELLING = ("torch", "transformers", "onnx", "onnxruntime", "optimum", "numpy")
_HOPELESS = 0.25
"""Of the plain export's rate in the closed loop: what is slower is not searched for its rate within the objective, which would take minutes."""


@dataclass(frozen=True, slots=True)
class Options:
    """The command line."""

    plain: Path
    chosen: Path
    made: Path
    venvs: Path
    out: Path
    server: str
    models: str
    tools: str
    rounds: int
    round_s: float
    probe_s: float
    searches: int
    texts: int
    prepare: bool


@dataclass(slots=True)
class Figures:
    """What is measured of one contestant, round by round."""

    samples: list[Sample] = field(default_factory=list)
    found: list[Found] = field(default_factory=list)

    @property
    def rate(self) -> float | None:
        """Within the objective; None where it was not searched for."""
        return statistics.median(one.rate for one in self.found) if self.found else None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; 0, or 1 after a message on stderr that says what went wrong. A claim that misses is a result."""
    return status("bench-optimizers", lambda: run(parse(arguments), sys.argv[1:] if arguments is None else arguments))


def parse(arguments: Sequence[str] | None) -> Options:
    """The command line as Options; exits with 2 and the usage if it is wrong."""
    flags = Flags("loadtests.bench_optimizers", __doc__)
    flags.add("--plain", "repository of plain exports", Path(".ferry-cache/plain"), Path)
    flags.add("--chosen", "repository of what `ferry optimize` chose", Path("model_repository"), Path)
    flags.add("--made", "folder that keeps what the other tools made", Path(".ferry-cache/optimizers"), Path)
    flags.add("--venvs", "folder for the tools' environments", Path(".venv-peers"), Path)
    flags.add("--out", "folder for the JSON file", Path("loadtests/results"), Path)
    flags.add(
        "--server", "command that takes --repository, --host, --port", f"{sys.executable} -m server.cli serve --grpc-port off"
    )
    flags.add("--models", "what is optimized, by commas", ",".join(TERMS))
    flags.add("--tools", "whom to compare with, by commas", ",".join(tool.name for tool in TOOLS))
    flags.add("--rounds", "rounds of the closed loop, of which the median counts", 5, count)
    flags.add("--round-s", "seconds of one round of one version", 2.0, positive)
    flags.add("--probe-s", "seconds of one try in the search for the highest rate", 3.0, positive)
    flags.add("--searches", "searches of each version, in turns, of which the median counts", 1, count)
    flags.add("--texts", "different sentences", 128, count)
    flags.switch("--prepare", "install, optimize and upload only; measure nothing")
    return Options(**flags.read(arguments))


def run(options: Options, arguments: Sequence[str]) -> Path | None:
    """Prepare, measure, print the tables, write the JSON file and return its path; None with --prepare. Raises LoadTestError."""
    began_at = time.perf_counter()
    tools = _tools(options.tools)
    terms = {name: terms_of(name) for name in options.models.split(",")}
    installed = [(tool, venvs.build(tool, options.venvs)) for tool in tools]
    places = Places(options.plain, options.chosen, options.made.resolve(), options.server, options.texts)
    subjects = {name: prepare(name, one, places, installed) for name, one in terms.items()}
    print(f"prepared after {time.perf_counter() - began_at:.0f} s", flush=True)
    if options.prepare:
        return None
    content: dict[str, Any] = {
        "kind": "optimizers",
        **heading("loadtests.bench_optimizers", arguments, asdict(options)),
        "tools": {
            tool.name: described(tool) | {"versions": venvs.versions(tool, python, _WORTH_TELLING)}
            for tool, python in installed
        },
        "models": {name: _compared(options, name, subject) for name, subject in subjects.items()},
    }
    content["verdicts"] = verdict_values(judged(content))
    file = write_json(options.out, "optimizers", content)
    print(f"{text(content)}\n{time.perf_counter() - began_at:.0f} s; written: {file}")
    return file


def _tools(names: str) -> list[Tool]:
    known = {tool.name: tool for tool in TOOLS}
    for name in names.split(","):
        if name not in known:
            raise BadInput(f"--tools {name}: known are {', '.join(known)}")
    return [known[name] for name in names.split(",")]


def _compared(options: Options, name: str, subject: Subject) -> dict[str, Any]:
    terms = subject.terms
    requests = [infer_request(HOST, name, row, binary=terms.binary) for row in subject.model.rows]
    with tempfile.TemporaryDirectory(prefix="optimizers-") as scratch, ExitStack() as servers:
        lanes = {}
        for at, one in enumerate(subject.contestants):
            server = servers.enter_context(served(options.server, one.file, Path(scratch) / str(at), terms))
            lanes[one.key] = Lane(f"{name}, {one.key}", server, requests, terms.connections)
        quality = _qualities(name, subject, lanes)
        figures = _measured(options, name, terms, lanes)
    return {
        "terms": {"slo_s": terms.slo_s, "connections": terms.connections, "binary": terms.binary},
        "versions": {one.key: _told(one, figures, quality[one.key]) for one in subject.contestants},
        "reasons": dict(subject.reasons),
    }


def _qualities(name: str, subject: Subject, lanes: Mapping[str, Lane]) -> dict[str, Quality]:
    """Of what is answered over the wire. The original is the plain export, which was held to PyTorch's last digits."""
    original = None
    found = {}
    for key, lane in lanes.items():
        answers = [asked(lane, request) for request in lane.requests]
        score = task_score(name, partial(_answer, name, lane))
        original = score if key == PLAIN else original
        found[key] = Quality(agreement(subject.wanted, answers), score, original)
    return found


def _answer(name: str, lane: Lane, row: Row) -> Mapping[str, Array]:
    return asked(lane, infer_request(HOST, name, row, binary=True))


def _measured(options: Options, name: str, terms: Terms, lanes: Mapping[str, Lane]) -> dict[str, Figures]:
    """Closed loops in turns, then searches in turns; each turn begins with another version, so that none has the best place."""
    figures = {key: Figures() for key in lanes}
    for lane in lanes.values():
        measure(lane, options.round_s)
    for done in range(options.rounds):
        for key in turn(list(lanes), done):
            figures[key].samples.append(measure(lanes[key], options.round_s))
        print(f"{name}: round {done + 1}/{options.rounds}", flush=True)
    per_s = {key: statistics.median(one.per_s for one in figures[key].samples) for key in lanes}
    worth = [key for key in lanes if per_s[key] >= _HOPELESS * per_s[PLAIN]]
    for done in range(options.searches):
        for key in turn(worth, done):
            figures[key].found.append(capacity(lanes[key], name, terms.slo_s, options.probe_s, per_s[key]))
    return figures


def turn(keys: Sequence[str], number: int) -> list[str]:
    """The order of a turn: `keys`, from another one on each time."""
    first = number % len(keys)
    return [*keys[first:], *keys[:first]]


def _told(one: Contestant, figures: Mapping[str, Figures], quality: Quality) -> dict[str, Any]:
    mine, plain = figures[one.key], figures[PLAIN]
    told = manifest(one.file.parent)
    pairs = zip(mine.samples, plain.samples, strict=True)
    return {
        "tool": one.tool,
        "backend": told["backend"],
        "bytes": one.file.stat().st_size,
        "sha256": next(entry["sha256"] for entry in told["files"] if entry["path"] == one.file.name),
        "max_rows": told["max_rows"],
        "mixes": told["ragged"] and told["ragged"]["mixes"],
        "made": None if one.made is None else made_values(one.made),
        "refused": [] if one.taken is None else [without_places(why) for why in one.taken.refused],
        "quality": quality_values(quality),
        "rate": mine.rate,
        "limited": any(found.limited for found in mine.found),
        "rate_ratio": mine.rate / plain.rate if mine.rate is not None and plain.rate else None,
        "closed_loop_ratio": statistics.median(ours.per_s / theirs.per_s for ours, theirs in pairs),
        "closed_loop": [asdict(sample) for sample in mine.samples],
        "capacity": [capacity_values(found) for found in mine.found],
    }


if __name__ == "__main__":
    as_program(main)
