"""`python -m loadtests.bench_optimizer`: what `ferry optimize` is worth on the wire: the version it chose beside the plain export.

Two repositories with the same models, one published with `--plain`. The same server serves both, side by side, and is asked the same
requests in turns: rate in a closed loop, the highest Poisson rate within the objective, size, and how well the answers agree.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from loadtests.agreed import Agreement, agreement
from loadtests.bench_command import Flags, as_program, status
from loadtests.capacity import Found, capacity_values
from loadtests.child import HOST
from loadtests.environment import heading
from loadtests.flags import count, positive
from loadtests.lanes import Lane, Sample, measure
from loadtests.limit import model_file
from loadtests.peers import models
from loadtests.published import manifest
from loadtests.report import number, table, write_json
from loadtests.side_by_side import TERMS, Terms, asked, capacity, served, terms_of
from loadtests.verdicts import Side, Verdict, verdict_table, verdict_values
from loadtests.wire import infer_request

PLAIN, CHOSEN = "plain", "chosen"
_HEADER = (
    "model", "", "backend", "MB", "closed loop/s", "within the SLO/s", "CPU ms", "p50 ms", "cosine mean / worst", "same top-1",
    "same neighbour",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Options:
    """The command line."""

    plain: Path
    chosen: Path
    out: Path
    server: str
    models: str
    rounds: int
    round_s: float
    probe_s: float
    texts: int


@dataclass(frozen=True, slots=True)
class Served:
    """One of the two versions. `samples`: the closed loop, by round; `found`: the search at the objective."""

    version: Path
    samples: Sequence[Sample]
    found: Found

    @property
    def n_bytes(self) -> int:
        """Of the model file."""
        return (self.version / "model.onnx").stat().st_size


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; 0, or 1 after a message on stderr that says what went wrong. A claim that misses is a result."""
    return status("bench-optimizer", lambda: run(parse(arguments), sys.argv[1:] if arguments is None else arguments))


def parse(arguments: Sequence[str] | None) -> Options:
    """The command line as Options; exits with 2 and the usage if it is wrong."""
    flags = Flags("loadtests.bench_optimizer", __doc__)
    flags.add("--plain", "repository of plain exports", Path(".ferry-cache/plain"), Path)
    flags.add("--chosen", "repository of what the optimizer chose", Path("model_repository"), Path)
    flags.add("--out", "folder for the JSON file", Path("loadtests/results"), Path)
    flags.add(
        "--server", "command that takes --repository, --host, --port", f"{sys.executable} -m server.cli serve --grpc-port off"
    )
    flags.add("--models", "what is served, by commas", ",".join(TERMS))
    flags.add("--rounds", "rounds of the closed loop, of which the median counts", 5, count)
    flags.add("--round-s", "seconds of one round of one version", 3.0, positive)
    flags.add("--probe-s", "seconds of one try in the search for the highest rate", 6.0, positive)
    flags.add("--texts", "different sentences", 256, count)
    return Options(**flags.read(arguments))


def run(options: Options, arguments: Sequence[str]) -> Path:
    """Measure, print the tables, write the JSON file and return its path. Raises LoadTestError."""
    began_at = time.perf_counter()
    found = {name: _compared(options, name) for name in options.models.split(",")}
    claims = [verdict for name, one in found.items() for verdict in verdicts(name, TERMS[name], one)]
    content = {
        "kind": "optimizer",
        **heading("loadtests.bench_optimizer", arguments, asdict(options)),
        "models": found,
        "verdicts": verdict_values(claims),
    }
    file = write_json(options.out, "optimizer", content)
    print(f"{_table(found)}\n\n{verdict_table(claims)}\n{time.perf_counter() - began_at:.0f} s; written: {file}")
    return file


def _compared(options: Options, name: str) -> dict[str, Any]:
    terms = terms_of(name)
    model, in_process = models.load(name, options.plain, options.texts)
    requests = [infer_request(HOST, name, row, binary=terms.binary) for row in model.rows]
    with tempfile.TemporaryDirectory(prefix="optimizer-") as scratch, ExitStack() as servers:
        lanes = {}
        for way, repository in ((PLAIN, options.plain), (CHOSEN, options.chosen)):
            server = servers.enter_context(served(options.server, model_file(repository, name), Path(scratch) / way, terms))
            lanes[way] = Lane(f"{name}, {way}", server, requests, terms.connections)
            measure(lanes[way], options.round_s)
        answers = [asked(lanes[CHOSEN], request) for request in requests]
        samples: dict[str, list[Sample]] = {way: [] for way in lanes}
        for done in range(1, options.rounds + 1):
            for way, lane in lanes.items():
                samples[way].append(measure(lane, options.round_s))
            print(f"{name}: round {done}/{options.rounds}", flush=True)
        best = {way: statistics.median(one.per_s for one in samples[way]) for way in lanes}
        found = {way: capacity(lanes[way], name, terms.slo_s, options.probe_s, best[way]) for way in lanes}
    versions = {PLAIN: model_file(options.plain, name).parent, CHOSEN: model_file(options.chosen, name).parent}
    ways = {way: Served(versions[way], samples[way], found[way]) for way in lanes}
    agreed = agreement([in_process.outputs(row) for row in model.rows], answers)
    return _content(terms, ways, agreed)


def _content(terms: Terms, served: Mapping[str, Served], agreed: Agreement) -> dict[str, Any]:
    pairs = zip(served[CHOSEN].samples, served[PLAIN].samples, strict=True)
    plain, chosen = served[PLAIN].found.rate, served[CHOSEN].found.rate
    return {
        "terms": asdict(terms),
        "closed_loop_ratio": statistics.median(mine.per_s / theirs.per_s for mine, theirs in pairs),
        "rate_ratio": chosen / plain if plain else None,
        "times_smaller": served[PLAIN].n_bytes / served[CHOSEN].n_bytes,
        "agreement": asdict(agreed),
        **{way: _told(one) for way, one in served.items()},
    }


def _told(one: Served) -> dict[str, Any]:
    told = manifest(one.version)
    return {
        "backend": told["backend"],
        "checks": {check["name"]: check["detail"] for check in told["checks"]},
        "bytes": one.n_bytes,
        "closed_loop": [asdict(sample) for sample in one.samples],
        "capacity": capacity_values(one.found),
    }


def verdicts(name: str, terms: Terms, found: Mapping[str, Any]) -> list[Verdict]:
    """The claims about one model."""
    told = [
        Verdict(f"{name}: rate within the objective / plain", found["rate_ratio"], Side.AT_LEAST, terms.least_rate),
        Verdict(
            f"{name}: mean cosine with the plain export", found["agreement"]["mean_cosine"], Side.AT_LEAST, terms.least_cosine
        ),
    ]
    if terms.least_smaller:
        told.append(Verdict(f"{name}: times smaller", found["times_smaller"], Side.AT_LEAST, terms.least_smaller))
    return told


def _table(found: Mapping[str, Mapping[str, Any]]) -> str:
    return table(_HEADER, [_cells(name, way, one) for name, one in found.items() for way in (PLAIN, CHOSEN)])


def _cells(name: str, way: str, one: Mapping[str, Any]) -> list[str]:
    told, agreed = one[way], one["agreement"]
    middle = {key: statistics.median(sample[key] for sample in told["closed_loop"]) for key in ("per_s", "cpu_us", "p50_ms")}
    quality = ["", "", ""]
    if way == CHOSEN:
        quality = [
            f"{agreed['mean_cosine']:.5f} / {agreed['worst_cosine']:.5f}",
            _share(agreed["same_top"]),
            _share(agreed["same_neighbour"]),
        ]
    speed = [
        number(middle["per_s"], 1),
        number(told["capacity"]["rate"], 1),
        f"{middle['cpu_us'] / 1e3:.3f}",
        number(middle["p50_ms"], 2),
    ]
    return [name, way, told["backend"], f"{told['bytes'] / 1e6:.2f}", *speed, *quality]


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


if __name__ == "__main__":
    as_program(main)
