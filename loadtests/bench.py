"""`python -m loadtests.bench`: ferry beside the bare echo server and the in-process limit, interleaved, on one machine.

Prints a table and writes every round, the command and the environment as JSON. Measuring itself is done elsewhere.
"""

from __future__ import annotations

import shlex
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from loadtests import cpu, data
from loadtests.bench_command import Flags, as_program, status
from loadtests.call import call, get_json
from loadtests.child import HOST, Child, free_port, running
from loadtests.echo import echo_server
from loadtests.environment import heading
from loadtests.errors import MissingData, ServerError
from loadtests.flags import count, positive
from loadtests.lanes import Lane, Sample, measure, median, verify
from loadtests.limit import InProcess, Placement, Row, Setting, Sweep, model_file
from loadtests.report import number, table, write_json
from loadtests.wire import error_text, infer_request

_HEADER = ("", "conns", "req/s", "CPU us/req", "p50 ms", "p99 ms", "/ echo", "/ limit", "refused", "failed")
_N_VERIFIED = 128
_WARM_UP_S = 0.5
_ONE_BY_ONE = Setting(Placement.WIDE, 1)


@dataclass(frozen=True, slots=True)
class Options:
    """The command line. `digits` and `minilm` name models; one that is not served is left out."""

    repository: Path
    out: Path
    server: str
    rounds: int
    round_s: float
    sweep_s: float
    cold_starts: int
    connections: int
    texts: int
    digits: str
    minilm: str


@dataclass(frozen=True, slots=True)
class Inputs:
    """Real rows for one served model."""

    model: str
    version: str
    rows: Sequence[Row]


@dataclass(frozen=True, slots=True)
class Start:
    """What a server costs before any load: seconds from its start to its first answer, then its idle memory."""

    cold_start_s: float
    memory: cpu.Memory


@dataclass(frozen=True, slots=True)
class Limit:
    """A model in process: all settings tried once, and the best one's rows per second in each round; and row by row."""

    sweep: Sweep
    rounds: list[float]
    one_by_one: list[float]


@dataclass(frozen=True, slots=True)
class Measured:
    """Samples by round of each lane, the echo baselines first, and the limits by model."""

    echo: Lane
    lone_echo: Lane
    lanes: Mapping[str, Sequence[Lane]]
    samples: Mapping[str, list[Sample]]
    limits: Mapping[str, Limit]
    differences: Mapping[str, float]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; 0, or 1 after a message on stderr that says what went wrong."""
    return status("bench", lambda: run(parse(arguments)))


def parse(arguments: Sequence[str] | None) -> Options:
    """The command line as Options; exits with 2 and the usage if it is wrong."""
    flags = Flags("loadtests.bench", __doc__)
    flags.add("--repository", "folder of published models", Path("model_repository"), Path)
    flags.add("--out", "folder for the JSON file", Path("loadtests/results"), Path)
    flags.add(
        "--server", "command that takes --repository, --host, --port", f"{sys.executable} -m server.cli serve --grpc-port off"
    )
    flags.add("--rounds", "rounds, of which the median counts", 5, count)
    flags.add("--round-s", "seconds of each lane in a round", 3.0, positive)
    flags.add("--sweep-s", "seconds of each in-process setting, tried once", 0.5, positive)
    flags.add("--cold-starts", "starts, of which the median counts", 3, count)
    flags.add("--connections", "connections of the loaded lanes", 64, count)
    flags.add("--texts", "different sentences", 1024, count)
    flags.add("--digits", "name of the digits model", "digits")
    flags.add("--minilm", "name of the sentence model", "minilm")
    return Options(**flags.read(arguments))


def run(options: Options) -> Path:
    """Measure, print the table, write the JSON file and return its path. Raises LoadTestError."""
    with _server(options) as server:  # a start that only tells what is served, and fills the page cache
        inputs = _inputs(options, server)
    with ExitStack() as stack:
        server, starts = _started(options, inputs[0], stack)
        measured = _measured(options, inputs, server, stack.enter_context(echo_server()))
    print(_table(measured))
    for model, share in _alone(measured).items():
        print(f"{model}, one connection: p50 / (p50 of the echo + one run in process) = {share:.2f}")
    print(_idle(starts))
    file = write_json(options.out, "bench", _content(options, measured, starts))
    print(f"written: {file}")
    return file


def _server(options: Options) -> AbstractContextManager[Child]:
    port = free_port()
    flags = ["--repository", str(options.repository), "--host", HOST, "--port", str(port)]
    return running([*shlex.split(options.server), *flags], port, ready_path="/v2/health/ready")


def _inputs(options: Options, server: Child) -> list[Inputs]:
    found = []
    for model in (options.digits, options.minilm):
        try:
            meta = get_json(HOST, server.port, f"/v2/models/{model}")
        except ServerError as error:
            print(f"{model} is left out: {error}", file=sys.stderr)
            continue
        rows = data.digits(_only_input(meta)) if model == options.digits else data.texts(options.texts)
        found.append(Inputs(model, max(meta["versions"], key=int), rows))
    if not found:
        raise MissingData(f"neither {options.digits} nor {options.minilm} is served from {options.repository}")
    return found


def _only_input(meta: Mapping[str, Any]) -> data.InputMeta:
    if len(meta["inputs"]) != 1:
        raise MissingData(f"{meta['name']} has {len(meta['inputs'])} inputs, where digits has one")
    one = meta["inputs"][0]
    return data.InputMeta(one["name"], one["datatype"], tuple(one["shape"]))


def _started(options: Options, inputs: Inputs, stack: ExitStack) -> tuple[Child, list[Start]]:
    """Start the server `cold_starts` times; the last one goes on running until `stack` is closed."""
    request = infer_request(HOST, inputs.model, inputs.rows[0], binary=False)
    starts = []
    for _ in range(options.cold_starts - 1):
        with _server(options) as server:
            starts.append(_first_answer(server, request))
    server = stack.enter_context(_server(options))
    return server, [*starts, _first_answer(server, request)]


def _first_answer(server: Child, request: bytes) -> Start:
    response = call(HOST, server.port, request)
    took_s = time.perf_counter() - server.started_at
    if response.status != 200:
        raise ServerError(response.status, error_text(response.body))
    return Start(took_s, cpu.memory(server.pid))


def _measured(options: Options, inputs: Sequence[Inputs], server: Child, echo: Child) -> Measured:
    lanes = {one.model: _lanes(options, one, server) for one in inputs}
    echo_lane = Lane("echo", echo, lanes[inputs[0].model][0].requests, options.connections)
    lone_echo = replace(echo_lane, name="echo, alone", connections=1)
    flat = [echo_lane, lone_echo, *(lane for many in lanes.values() for lane in many)]
    limits: dict[str, Limit] = {}
    differences: dict[str, float] = {}
    in_process: dict[str, InProcess] = {}
    for one in inputs:
        file = model_file(options.repository, one.model, one.version)
        model = in_process[one.model] = InProcess(file, one.rows)
        expected = [model.outputs(row) for row in one.rows[:_N_VERIFIED]]
        differences |= {lane.name: verify(lane, expected.__getitem__, _N_VERIFIED) for lane in lanes[one.model]}
        limits[one.model] = Limit(model.sweep(options.sweep_s), [], [])
    for lane in flat:
        measure(lane, min(_WARM_UP_S, options.round_s))
    samples: dict[str, list[Sample]] = {lane.name: [] for lane in flat}
    for _ in range(options.rounds):
        for lane in flat:
            samples[lane.name].append(measure(lane, options.round_s))
        for name, limit in limits.items():
            limit.rounds.append(in_process[name].rate(limit.sweep.best, options.round_s))
            limit.one_by_one.append(in_process[name].rate(_ONE_BY_ONE, options.sweep_s))
    return Measured(echo_lane, lone_echo, lanes, samples, limits, differences)


def _lanes(options: Options, inputs: Inputs, server: Child) -> list[Lane]:
    json = [infer_request(HOST, inputs.model, row, binary=False) for row in inputs.rows]
    lanes = [Lane(f"{inputs.model} JSON", server, json, options.connections)]
    if inputs.model == options.digits:
        binary = [infer_request(HOST, inputs.model, row, binary=True) for row in inputs.rows]
        lanes.append(Lane(f"{inputs.model} binary", server, binary, options.connections))
        lanes.append(Lane(f"{inputs.model} JSON, alone", server, json, 1))
    return lanes


def _table(measured: Measured) -> str:
    lines = [_line(measured, measured.echo, None), _line(measured, measured.lone_echo, None)]
    for model, lanes in measured.lanes.items():
        limit = measured.limits[model]
        lines += [_line(measured, lane, limit) for lane in lanes]
        rate = number(statistics.median(limit.rounds))
        lines.append([f"{model} in process ({limit.sweep.best})", "", rate, *[""] * (len(_HEADER) - 3)])
    return table(_HEADER, lines)


def _line(measured: Measured, lane: Lane, limit: Limit | None) -> list[str]:
    samples = measured.samples[lane.name]
    one = median(samples)
    loaded = lane.connections == measured.echo.connections
    rates = [sample.per_s for sample in samples]
    echo = [sample.per_s for sample in measured.samples[measured.echo.name]]
    to_echo = _ratio(rates, echo) if loaded and limit is not None else None
    to_limit = _ratio(rates, limit.rounds) if loaded and limit is not None else None
    return [
        lane.name, str(lane.connections), number(one.per_s), number(one.cpu_us, 1), number(one.p50_ms, 3),
        number(one.p99_ms, 3), number(to_echo, 3), number(to_limit, 3), number(one.n_refused), number(one.n_failed),
    ]  # fmt: skip


def _alone(measured: Measured) -> dict[str, float]:
    """By model, the median over the rounds: what a lone request waits for, beside what it cannot do without."""
    shares = {}
    for model, lanes in measured.lanes.items():
        for lane in lanes:
            if lane.connections == 1:
                rounds = zip(
                    measured.samples[lane.name],
                    measured.samples[measured.lone_echo.name],
                    measured.limits[model].one_by_one,
                    strict=True,
                )
                shares[model] = statistics.median(one.p50_ms / (echo.p50_ms + 1e3 / rate) for one, echo, rate in rounds)
    return shares


def _ratio(rates: Sequence[float], others: Sequence[float]) -> float:
    """The median of the ratios within each round: what disturbs a round disturbs both."""
    return statistics.median(rate / other for rate, other in zip(rates, others, strict=True))


def _idle(starts: Sequence[Start]) -> str:
    memory = starts[-1].memory
    pss = None if memory.pss is None else memory.pss / 1e6
    cold_s = statistics.median(start.cold_start_s for start in starts)
    return (
        f"idle: PSS {number(pss)} MB, RSS {number(memory.rss / 1e6)} MB; "
        f"cold start to the first answer: {number(cold_s, 2)} s (median of {len(starts)})"
    )


def _content(options: Options, measured: Measured, starts: Sequence[Start]) -> dict[str, Any]:
    return {
        **heading("loadtests.bench", sys.argv[1:], asdict(options)),
        "starts": [asdict(start) for start in starts],
        "lanes": {
            name: {"median": asdict(median(samples)), "rounds": [asdict(one) for one in samples]}
            for name, samples in measured.samples.items()
        },
        "in_process": {
            model: {
                "best": str(limit.sweep.best),
                "rows_per_s": limit.rounds,
                "one_by_one_per_s": limit.one_by_one,
                "sweep": {str(setting): rate for setting, rate in limit.sweep.rows_per_s.items()},
            }
            for model, limit in measured.limits.items()
        },
        "alone_to_echo_and_one_run": _alone(measured),
        "largest_difference": dict(measured.differences),
    }


if __name__ == "__main__":
    as_program(main)
