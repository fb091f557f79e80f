"""`python -m loadtests.bench_images`: what one 3×224×224 image costs over each wire, and what is left of the model's own rate.

The first part asks a model that does nothing (`pixels`); the second ResNet-18, interleaved with its in-process limit.
"""

from __future__ import annotations

import shlex
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from loadtests import pixels
from loadtests.bench_command import Flags, as_program, status
from loadtests.child import HOST, Child, free_port, running
from loadtests.echo import echo_server
from loadtests.environment import heading
from loadtests.flags import count, positive
from loadtests.lanes import Lane, Sample, measure, median, verify
from loadtests.limit import InProcess, Row, Setting, model_file
from loadtests.protocols import Protocol
from loadtests.report import number, table, write_json
from loadtests.target import metadata, target

_N_IMAGES = 8
_WARM_UP_S = 1.0
_WIRES = (("JSON", Protocol.HTTP, False), ("binary", Protocol.HTTP, True), ("gRPC", Protocol.GRPC, False))


@dataclass(frozen=True, slots=True)
class Options:
    """The command line."""

    repository: Path
    out: Path
    server: str
    optimize: str
    model: str
    rounds: int
    round_s: float
    connections: int


@dataclass(frozen=True, slots=True)
class Measured:
    """Samples by lane and round; the in-process rates by round."""

    samples: Mapping[str, list[Sample]]
    limit: list[float]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; 0, or 1 after a message on stderr."""
    return status("bench-images", lambda: run(parse(arguments)))


def parse(arguments: Sequence[str] | None) -> Options:
    """The command line as Options."""
    flags = Flags("loadtests.bench_images", __doc__)
    ferry = f"{sys.executable} -m server.cli"
    flags.add("--repository", "holds the model", Path("model_repository"), Path)
    flags.add("--out", "folder for the JSON file", Path("loadtests/results"), Path)
    flags.add("--server", "command that takes --repository, --port, --grpc-port", f"{ferry} serve --metrics-port 0")
    flags.add("--optimize", "command that takes a file, --slo, --repository", f"{ferry} optimize --plain")
    flags.add("--model", "model that takes images", "resnet18")
    flags.add("--rounds", "rounds, of which the median counts", 5, count)
    flags.add("--round-s", "seconds of each way to ask in a round", 4.0, positive)
    flags.add("--connections", "connections", 8, count)
    return Options(**flags.read(arguments))


def run(options: Options) -> Path:
    """Measure, print, write the JSON file and return its path. Raises LoadTestError."""
    with tempfile.TemporaryDirectory() as folder:
        empty = Path(folder) / "repository"
        empty.mkdir()
        pixels.publish(options.optimize, empty, Path(folder))
        with _server(options, empty) as (server, grpc_port), echo_server() as echo:
            lanes = _lanes(server, grpc_port, pixels.NAME, 1)
            lanes.append(replace(lanes[1], name="bare echo, the same binary requests", server=echo))
            wire = _rounds(options, lanes, None)
    with _server(options, options.repository) as (server, grpc_port):
        lanes = [one for one in _lanes(server, grpc_port, options.model, options.connections) if "JSON" not in one.name]
        model = InProcess(model_file(options.repository, options.model), [dict(row) for row in _named(server, options.model)])
        setting = model.sweep(_WARM_UP_S).best
        served = _served(options, lanes, model, setting)
    print(_tables(wire, served, setting))
    content = {
        **heading("loadtests.bench_images", sys.argv[1:], asdict(options)),
        "what_is_counted": "CPU time of the server's process tree per answer, from /proc: parsing, checks, scheduling, the call "
        "of a model that does nothing, the reply; JSON and binary over one keep-alive HTTP connection, gRPC over one HTTP/2 one",
        "wire": {name: [asdict(one) for one in samples] for name, samples in wire.samples.items()},
        "ratios": {name: _ratio(wire.samples[name], wire.samples[f"{pixels.NAME} JSON"]) for name in wire.samples},
        "served": {name: [asdict(one) for one in samples] for name, samples in served.samples.items()},
        "in_process": {"setting": str(setting), "rows_per_s": served.limit},
        "shares": {name: _share(samples, served.limit) for name, samples in served.samples.items()},
    }
    file = write_json(options.out, "bench-images", content)
    print(f"written: {file}")
    return file


@contextmanager
def _server(options: Options, repository: Path) -> Iterator[tuple[Child, int]]:
    port, grpc_port = free_port(), free_port()
    flags = ["--repository", str(repository), "--host", HOST, "--port", str(port), "--grpc-port", str(grpc_port)]
    with running([*shlex.split(options.server), *flags], port, ready_path="/v2/health/ready") as server:
        yield server, grpc_port


def _images() -> list[np.ndarray[Any, Any]]:
    """Values with six digits, as images in JSON have them."""
    rng = np.random.default_rng(0)
    return [rng.random((1, *pixels.SHAPE)).round(6).astype(np.float32) for _ in range(_N_IMAGES)]


def _named(server: Child, model: str) -> list[Row]:
    name = metadata(target(f"http://{HOST}:{server.port}", model))[0].name
    return [{name: image} for image in _images()]


def _lanes(server: Child, grpc_port: int, model: str, connections: int) -> list[Lane]:
    rows = _named(server, model)
    lanes = []
    for name, protocol, binary in _WIRES:
        child = replace(server, port=grpc_port) if protocol is Protocol.GRPC else server
        requests = [
            protocol.infer_request(f"{HOST}:{child.port}", model, row, binary=binary, version=None, timeout_us=None)
            for row in rows
        ]
        lanes.append(Lane(f"{model} {name}", child, requests, connections, protocol))
    return lanes


def _rounds(options: Options, lanes: Sequence[Lane], in_process: Callable[[], float] | None) -> Measured:
    for lane in lanes:
        measure(lane, _WARM_UP_S)
    samples: dict[str, list[Sample]] = {lane.name: [] for lane in lanes}
    limit: list[float] = []
    for _ in range(options.rounds):
        for lane in lanes:
            if in_process is not None:  # beside each lane: the machine is what changes
                limit.append(in_process())
            samples[lane.name].append(measure(lane, options.round_s))
    return Measured(samples, limit)


def _served(options: Options, lanes: Sequence[Lane], model: InProcess, setting: Setting) -> Measured:
    expected = [model.outputs(row) for row in model.rows]
    for lane in lanes:
        verify(lane, expected.__getitem__, len(expected))
    return _rounds(options, lanes, lambda: model.rate(setting, options.round_s))


def _ratio(samples: Sequence[Sample], others: Sequence[Sample]) -> float:
    return statistics.median(one.cpu_us / other.cpu_us for one, other in zip(samples, others, strict=True))


def _share(samples: Sequence[Sample], limit: Sequence[float]) -> float:
    """Median over the rounds of a rate ÷ the mean of that round's in-process rates."""
    n = len(limit) // len(samples)
    return statistics.median(one.per_s / statistics.mean(limit[at * n : at * n + n]) for at, one in enumerate(samples))


def _tables(wire: Measured, served: Measured, setting: Setting) -> str:
    json = wire.samples[f"{pixels.NAME} JSON"]
    costs = [
        [name, number(median(samples).cpu_us), number(median(samples).p50_ms, 2), f"{_ratio(samples, json):.4f}"]
        for name, samples in wire.samples.items()
    ]
    shares = [
        [name, number(median(samples).per_s, 1), number(median(samples).p50_ms, 1), f"{_share(samples, served.limit):.3f}"]
        for name, samples in served.samples.items()
    ]
    limit = [f"in process ({setting})", number(statistics.median(served.limit), 1), "", ""]
    first = table(("no model", "CPU us/req", "p50 ms", "/ JSON"), costs)
    return f"{first}\n\n{table(('', 'images/s', 'p50 ms', '/ in process'), [*shares, limit])}"


if __name__ == "__main__":
    as_program(main)
