"""`python -m loadtests.compare_simulation`: what `ferry simulate` predicts beside what `ferry loadtest` measures, on this machine, now.

A paced model, sentences of mixed lengths and images: the same recorded arrivals in both worlds at some loads, and the capacity at the SLO.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from loadtests.agreement import WITHIN, Compared, Figure, agreement_plot, agreement_table
from loadtests.bench_command import as_program
from loadtests.call import get_json
from loadtests.capacity import find_capacity
from loadtests.child import HOST, Child, free_port, running
from loadtests.environment import heading
from loadtests.errors import BadInput, LoadTestError
from loadtests.job import Wanted, make_ready
from loadtests.lengths import sample
from loadtests.load import Generator
from loadtests.probe import Prober
from loadtests.report import write_json

_WARM_UP_S = 2.0
_N_INPUTS = 512
_PACED = "paced"

Ran = Mapping[int, tuple[int, float]]
"""By rows: how many batches there were, and how many milliseconds they took in all."""


@dataclass(frozen=True, slots=True)
class Case:
    """A model, how it is asked, and what `ferry optimize` is told of it. `lengths`: None for a model whose inputs are all alike."""

    model: str
    slo: str
    lengths: str | None = None
    binary: bool = False
    flags: tuple[str, ...] = ()

    @property
    def slo_s(self) -> float:
        return float(self.slo.removesuffix("ms")) / 1e3


CASES = (
    Case(_PACED, "108ms"),
    Case("minilm", "300ms", "lognormal:40:0.7:256", flags=("--max-rows", "32", "--lengths", "3:256")),
    Case("resnet18", "500ms", binary=True, flags=("--max-rows", "16")),
)


@dataclass(frozen=True, slots=True)
class Options:
    """The command line."""

    repository: Path
    out: Path
    plot: Path | None
    models: Sequence[str]
    loads: Sequence[float]
    run_s: float
    probe_s: float
    server: str
    paced_server: str
    simulate: str
    optimize: str
    as_published: bool


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if everything measured is as predicted, 1 if not or if something failed."""
    options = _parse(arguments)
    try:
        compared = [_compare(case, options) for case in CASES if case.model in options.models]
    except LoadTestError as error:
        print(f"compare_simulation: {error}", file=sys.stderr)
        return 1
    print(agreement_table(compared))
    content = {
        **heading("loadtests.compare_simulation", arguments or sys.argv[1:], asdict(options)),
        "within": WITHIN,
        "compared": [asdict(one) for one in compared],
    }
    print(f"written: {write_json(options.out, 'simulation', content)}")
    if options.plot is not None:
        options.plot.write_text(agreement_plot(compared))
        print(f"plot: {options.plot}")
    return 0 if all(figure.agrees for one in compared for figure in one.figures) else 1


def _parse(arguments: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser("python -m loadtests.compare_simulation", description=__doc__)
    parser.add_argument(
        "--repository", type=Path, default=Path("model_repository"), help="with minilm and resnet18, profiled on this machine"
    )
    parser.add_argument("--out", type=Path, default=Path("loadtests/results"))
    parser.add_argument("--plot", type=Path, help="an SVG file")
    parser.add_argument("--models", nargs="+", default=[case.model for case in CASES], choices=[case.model for case in CASES])
    parser.add_argument("--loads", type=float, nargs="+", default=[0.3, 0.6, 0.9], help="shares of the predicted capacity")
    parser.add_argument("--run-s", type=float, default=12.0, help="of each load")
    parser.add_argument("--probe-s", type=float, default=3.0, help="of a try in the search for the capacity; 0: no search")
    parser.add_argument("--server", default="python -m server.cli serve --grpc-port off --metrics-port 0", help="its command")
    parser.add_argument("--paced-server", default="python -m tests.measure.serve_paced", help="of the paced model")
    parser.add_argument("--simulate", default="python -m server.cli simulate", help="the command that predicts")
    parser.add_argument(
        "--optimize", default="python -m server.cli optimize --plain", help="the command that measures a profile"
    )
    parser.add_argument(
        "--as-published",
        action="store_true",
        help="use the profiles in the repository; default: measure them now, as machines change their pace",
    )
    return Options(**vars(parser.parse_args(arguments)))


def _compare(case: Case, options: Options) -> Compared:
    """All figures of one model, each time what was predicted and what was measured."""
    with tempfile.TemporaryDirectory() as scratch, _serving(case, options, Path(scratch)) as (child, repository):
        predict = Prediction(case, options, repository, Path(scratch))
        job = make_ready(_wanted(case, child, "poisson"))
        prober = Prober(job, Generator(1, 1024, 10.0), child.pid, {})
        rate = predict.capacity(beside=0.0)
        prober.run(0.5 * rate, _WARM_UP_S, seed=9)
        figures: list[Figure] = []
        beside = 0.0
        for number, load in enumerate(sorted(options.loads)):
            found, beside = _at_load(case, options, child, predict, load, load * rate, number)
            figures += found
        if options.probe_s:
            measured = find_capacity(prober, case.slo_s, options.probe_s, 0.95 * rate)
            figures.append(Figure("capacity", None, "/s", predict.capacity(beside), measured.rate, None, WITHIN["capacity"]))
        return Compared(case.model, case.slo_s, rate, figures)


def _at_load(
    case: Case, options: Options, child: Child, predict: Prediction, load: float, rate: float, number: int
) -> tuple[list[Figure], float]:
    """p50 and p99 of one recorded run, and how much of a core the load generator took."""
    trace = _record(case, predict.scratch, rate, options.run_s, number)
    prober = Prober(make_ready(_wanted(case, child, f"trace:{trace}")), Generator(1, 1024, 10.0), child.pid, {})
    before = _batches(child, case)
    measured = prober.run(None, options.run_s + 1, 0)
    after = _batches(child, case)
    (one,) = measured["traffic"].values()
    beside = float(measured["generator"]["busy_share"])
    predicted = predict.run(trace, beside)
    pace = _pace(before, after, predicted["batch_ms"])
    at_pace = predict.run(trace, beside, slower=pace)
    print(
        f"{case.model} at {load:g}x = {rate:.1f}/s: batches took {pace:.2f} times as long as predicted; "
        f"in SLO {one['in_slo_share']:.2%}, predicted {predicted['in_slo_share']:.2%}"
        + "".join(f"\n! {line}" for line in measured["notices"])
    )
    return [
        Figure(q, load, "ms", predicted["latency_ms"][q], one["latency_ms"][q], at_pace["latency_ms"][q], WITHIN[q])
        for q in ("p50", "p99")
    ], beside


@contextmanager
def _serving(case: Case, options: Options, scratch: Path) -> Iterator[tuple[Child, Path]]:
    """ferry with the case's model alone on its device, its SLO in model.toml, and where its repository is."""
    repository = scratch / "repository"
    command = shlex.split(options.server)
    if case.model == _PACED:
        command = [*shlex.split(options.paced_server), "--slo-ms", str(case.slo_s * 1e3)]
    elif options.as_published:
        shutil.copytree(options.repository / case.model, repository / case.model)
        wants = repository / case.model / "model.toml"
        wants.write_text(re.sub(r"(?m)^slo\s*=.*$", f'slo = "{case.slo}"', wants.read_text()))
    else:
        _publish(case, options, repository)
    port = free_port()
    command += ["--repository", str(repository), "--port", str(port)]
    with running(command, port, ready_path=f"/v2/models/{case.model}/ready") as child:
        yield child, repository


def _publish(case: Case, options: Options, repository: Path) -> None:
    """The same model file with a profile of this minute."""
    files = sorted((options.repository / case.model).glob("[0-9]*/model.onnx"), key=lambda one: int(one.parent.name))
    if not files:
        raise BadInput(
            f"no model file {options.repository / case.model}/N/model.onnx; give --repository, or leave it out with --models"
        )
    flags = [
        "--name",
        case.model,
        "--slo",
        case.slo,
        "--repository",
        str(repository),
        "--cache",
        str(repository) + ".cache",
        *case.flags,
    ]
    _run([*shlex.split(options.optimize), str(files[-1]), *flags])


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LoadTestError(f"`{shlex.join(command)}` failed: {done.stderr.strip()[-500:]}")


def _wanted(case: Case, child: Child, arrivals: str) -> Wanted:
    return Wanted(
        f"http://{HOST}:{child.port}", case.model, arrivals=arrivals, slo_s=case.slo_s, n_inputs=_N_INPUTS if case.lengths else 16,
        lengths=case.lengths or "fixed:16", binary=case.binary,
    )  # fmt: skip


def _record(case: Case, folder: Path, rate: float, run_s: float, seed: int) -> Path:
    """Poisson arrivals as a trace, with lengths where the model has them: the same requests for the wire and for the simulation."""
    rng = np.random.default_rng(seed)
    due_s = np.cumsum(rng.exponential(1 / rate, math.ceil(rate * run_s)))
    lengths = sample(case.lengths, len(due_s), seed) if case.lengths else None
    file = folder / f"{case.model}-{seed}.trace"
    lines = [f"{at:.6f}" if lengths is None else f"{at:.6f} {max(3, lengths[n])}" for n, at in enumerate(due_s)]
    file.write_text("\n".join(lines) + "\n")
    return file


def _batches(child: Child, case: Case) -> Ran:
    """What V2's statistics tell, since the server's start."""
    found = get_json(HOST, child.port, f"/v2/models/{case.model}/stats")["model_stats"][0]["batch_stats"]
    return {one["batch_size"]: (one["compute_infer"]["count"], one["compute_infer"]["ns"] / 1e6) for one in found}


def _pace(before: Ran, after: Ran, predicted_ms: Mapping[int, float]) -> float:
    """How many times longer batches took than was predicted for batches of as many rows."""
    gained = {rows: (n - before.get(rows, (0, 0.0))[0], ms - before.get(rows, (0, 0.0))[1]) for rows, (n, ms) in after.items()}
    both = [(ms, n * predicted_ms[rows]) for rows, (n, ms) in gained.items() if rows in predicted_ms]
    return sum(ms for ms, _ in both) / max(1e-9, sum(ms for _, ms in both))


@dataclass(frozen=True, slots=True)
class Prediction:
    """`ferry simulate`, run as a program."""

    case: Case
    options: Options
    repository: Path
    scratch: Path

    def capacity(self, beside: float) -> float:
        """Requests per second at the SLO."""
        lengths = ["--lengths", self.case.lengths] if self.case.lengths else []
        return float(self._ask([*lengths, "--find-capacity"], beside)["capacity"]["rate"])

    def run(self, trace: Path, beside: float, slower: float = 1.0) -> dict[str, Any]:
        """A recorded run."""
        found = self._ask(["--arrivals", f"trace:{trace}", "--slower", str(slower)], beside)
        (one,), (sizes,) = found["traffic"].values(), found["batches"].values()
        return {**one, "batch_ms": {size["rows"]: size["mean_ms"] for size in sizes}}

    def _ask(self, flags: Sequence[str], beside: float) -> dict[str, Any]:
        file = self.scratch / "prediction.json"
        command = [
            *shlex.split(self.options.simulate), self.case.model, "--repository", str(self.repository), "--beside", str(beside),
            "--json", str(file), *(["--binary"] if self.case.binary else []), *flags,
        ]  # fmt: skip
        _run(command)
        return dict(json.loads(file.read_text()))


if __name__ == "__main__":
    as_program(main)
