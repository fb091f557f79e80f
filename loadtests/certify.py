"""MLPerf LoadGen's Server scenario over the wire, and its verdict on capacity beside ours.

`python -m loadtests.certify` judges a paced model that it starts itself; `--url URL --model M` judges another server.
It needs the package mlcommons-loadgen.
"""

from __future__ import annotations

import argparse
import heapq
import importlib
import math
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtests.bench_command import as_program
from loadtests.capacity import find_capacity
from loadtests.child import HOST, free_port, running
from loadtests.environment import environment
from loadtests.errors import LoadTestError, MissingData
from loadtests.flags import duration_s, positive
from loadtests.job import Job, Wanted, make_ready
from loadtests.load import Generator
from loadtests.probe import Prober
from loadtests.report import write_json
from loadtests.sockets import NO_REQUEST, Broken, Connection, Sockets
from loadtests.wire import Bodies

AGREEMENT = 0.05
_POLL_S = 0.01
_N_SAMPLES = 1024
_PRECISION = 1.03
_CONFIRMING = 4
_MOST_STEPS = 10
_SUMMARY = "mlperf_log_summary.txt"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What LoadGen said about one rate."""

    rate: float
    valid: bool
    p99_ms: float | None


class SystemUnderTest:
    """LoadGen's queries as requests: issued on LoadGen's thread, completed on one of ours.

    LoadGen knows no refusals: a request without an answer of status 200 is completed `penalty_s` later, as a late one.
    """

    def __init__(self, loadgen: Any, job: Job, penalty_s: float) -> None:
        self._loadgen = loadgen
        self._requests = job.requests
        self._penalty_s = penalty_s
        self._sockets = Sockets(job.target.address, Bodies.SKIP)
        self._idle: deque[Connection] = deque()
        self._late: list[tuple[float, int]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._receive, daemon=True)
        self._thread.start()

    def issue(self, samples: Any) -> None:
        """Send, and return at once."""
        for one in samples:
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = self._sockets.begin()
            self._sockets.send(connection, one.id, self._requests[one.index % len(self._requests)])

    def close(self) -> None:
        """After the last query is completed."""
        self._stop.set()
        self._thread.join()
        self._sockets.close_all()

    def _receive(self) -> None:
        while not self._stop.is_set():
            for connection, found in self._sockets.poll(_POLL_S):
                ordinal, connection.ordinal = connection.ordinal, NO_REQUEST
                if ordinal != NO_REQUEST:
                    self._complete(ordinal, not isinstance(found, Broken) and found.status == 200)
                if not isinstance(found, Broken):
                    self._idle.append(connection)
            while self._late and self._late[0][0] <= time.perf_counter():
                self._complete(heapq.heappop(self._late)[1], True)

    def _complete(self, ordinal: int, answered: bool) -> None:
        if answered:
            self._loadgen.QuerySamplesComplete([self._loadgen.QuerySampleResponse(ordinal, 0, 0)])
        else:
            heapq.heappush(self._late, (time.perf_counter() + self._penalty_s, ordinal))


def judge(loadgen: Any, job: Job, rate: float, slo_s: float, run_s: float, seed: int) -> Verdict:
    """One run of LoadGen in its Server scenario at a rate. Its own seed is fixed: one lucky schedule would judge all rates."""
    settings = loadgen.TestSettings()
    settings.scenario, settings.mode = loadgen.TestScenario.Server, loadgen.TestMode.PerformanceOnly
    settings.server_target_qps = rate
    settings.server_target_latency_ns = int(slo_s * 1e9)
    settings.server_target_latency_percentile = 0.99
    settings.min_duration_ms, settings.min_query_count = int(run_s * 1e3), int(rate * run_s)
    settings.schedule_rng_seed = settings.sample_index_rng_seed = settings.qsl_rng_seed = seed
    sut = SystemUnderTest(loadgen, job, penalty_s=2 * slo_s)
    handle = loadgen.ConstructSUT(sut.issue, lambda: None)
    library = loadgen.ConstructQSL(_N_SAMPLES, _N_SAMPLES, lambda samples: None, lambda samples: None)
    with tempfile.TemporaryDirectory() as folder:
        output = loadgen.LogOutputSettings()
        output.outdir, output.copy_summary_to_stdout = folder, False
        logs = loadgen.LogSettings()
        logs.log_output, logs.enable_trace = output, False
        try:
            loadgen.StartTestWithLogSettings(handle, library, settings, logs)
        finally:
            loadgen.DestroyQSL(library)
            loadgen.DestroySUT(handle)
            sut.close()
        return _verdict(rate, (Path(folder) / _SUMMARY).read_text())


def _verdict(rate: float, summary: str) -> Verdict:
    lines = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in summary.splitlines())}
    p99_ns = lines.get("99.00 percentile latency (ns)")
    return Verdict(rate, lines.get("Result is") == "VALID", None if p99_ns is None else int(p99_ns) / 1e6)


def capacity(loadgen: Any, job: Job, around: float, slo_s: float, run_s: float) -> tuple[float, list[Verdict]]:
    """The highest rate that LoadGen calls valid between 0.8 and 1.25 times a rate, confirmed as ours is; 0 if none."""
    verdicts: list[Verdict] = []

    def valid(rate: float, duration_s: float) -> bool:
        verdicts.append(judge(loadgen, job, rate, slo_s, duration_s, seed=len(verdicts) + 1))
        return verdicts[-1].valid

    low, high = 0.8 * around, 1.25 * around
    if not valid(low, run_s):
        return 0.0, verdicts
    while high / low > _PRECISION:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if valid(middle, run_s) else (low, middle)
    for _ in range(_MOST_STEPS):
        if valid(low, _CONFIRMING * run_s):
            return low, verdicts
        low /= _PRECISION
    return 0.0, verdicts


def main(arguments: list[str] | None = None) -> int:
    """0 if both agree within 5 %."""
    parser = argparse.ArgumentParser("python -m loadtests.certify", description=__doc__)
    parser.add_argument("--url", help="the server (default: one of our own, whose device sleeps and uses no CPU)")
    parser.add_argument("--model", default="paced")
    parser.add_argument("--slo", type=duration_s, default=0.05, help="(default: 50ms)")
    parser.add_argument("--rate", type=positive, default=600.0, help="where to begin (default: %(default)s)")
    parser.add_argument("--probe", type=duration_s, default=10.0, help="duration of one try (default: 10s)")
    parser.add_argument("--out", type=Path, default=Path("loadtests/results"))
    args = parser.parse_args(arguments)
    try:
        with _own_server() if args.url is None else nullcontext(args.url) as url:
            return _certify(args, url)
    except LoadTestError as error:
        print(f"certify: {error}", file=sys.stderr)
        return 1


@contextmanager
def _own_server() -> Iterator[str]:
    port = free_port()
    with running([sys.executable, "-m", "loadtests.paced", str(port)], port, ready_path="/v2/health/ready"):
        yield f"http://{HOST}:{port}"


def _certify(args: argparse.Namespace, url: str) -> int:
    try:
        loadgen = importlib.import_module("mlperf_loadgen")
    except ImportError as error:
        raise MissingData("certification needs MLPerf LoadGen: pip install mlcommons-loadgen") from error
    job = make_ready(Wanted(url, args.model, slo_s=args.slo))
    prober = Prober(job, Generator(1, 1024, 10.0), None, {})
    ours = find_capacity(prober, args.slo, args.probe, args.rate)
    theirs, verdicts = capacity(loadgen, job, ours.rate, args.slo, args.probe) if ours.rate else (0.0, [])
    difference = abs(theirs / ours.rate - 1) if ours.rate else math.inf
    for one in verdicts:
        print(f"LoadGen at {one.rate:,.1f}/s: {'VALID' if one.valid else 'INVALID'}, p99 {one.p99_ms} ms")
    agree = difference <= AGREEMENT
    print(f"ours {ours.rate:,.1f}/s, LoadGen {theirs:,.1f}/s: {difference:.1%} apart, {'agreed' if agree else 'NOT agreed'}")
    content = {
        "model": args.model,
        "slo_ms": args.slo * 1e3,
        "probe_s": args.probe,
        "ours": ours,
        "loadgen": verdicts,
        "loadgen_rate": theirs,
        "difference": difference if ours.rate else None,
        "agree": agree,
        "environment": environment(("mlcommons-loadgen", "numpy", "orjson")),
    }
    print(f"written: {write_json(args.out, 'certify', content)}")
    return 0 if agree else 1


if __name__ == "__main__":
    as_program(main)
