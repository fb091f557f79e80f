"""`python -m loadtests.bench_overload`: a server whose front end is the bottleneck, before, during and after an overload.

Over many connections of independent clients: goodput against its own peak, time to recover, memory, what became of the others.
"""

from __future__ import annotations

import math
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from loadtests.arrivals import Seconds, Spacing, Steady, schedule
from loadtests.bench_command import Flags, as_program, status
from loadtests.child import HOST, Child, free_port, running
from loadtests.clients import Clients
from loadtests.environment import heading
from loadtests.errors import LoadTestError
from loadtests.flags import count, duration_s, positive
from loadtests.lanes import Lane, Sample, measure, median
from loadtests.load import Generator, Loaded, Traffic, load
from loadtests.memory import MemoryWatch
from loadtests.overload import shares, untold
from loadtests.peers import models
from loadtests.published import copy_of
from loadtests.recovery import Phases, goodput_per_s, recovery
from loadtests.report import write_json
from loadtests.slo_report import text
from loadtests.tally import part, punctuality, quantiles_ms, tally, time_line, tolerance_s
from loadtests.verdicts import Round, Side, Verdict, over_rounds, verdict_values

LEAST_GOODPUT = {1.5: 0.8, 3.0: 0.5}
"""Overloads, as multiples of the peak, and the share of it that must remain as goodput.

The peak is what a closed loop gets out of the server, as in the comparison with peers: more than the capacity at an objective, where p99 is the limit.
It is taken before and after each overload, as the machine is not equally fast all the time; an overload is a multiple of the one, and judged by the mean of both.
"""

_MOST_RECOVERY_S = 1.0
_MOST_MEMORY = 1.1
"""During and after an overload, as a multiple of what it was before the first of all, when what is bounded was full: ferry keeps its last
32 MiB of decisions, whatever the load, and small requests fill that soonest."""

_MOST_TRIES = 3
"""An overload whose generator did not keep up is made again; so often in all, and what is void then stays void."""

_NORMAL = 0.5
"""The load before and after, as a share of the peak."""

_LOOP = 64
"""Connections of the closed loop."""

_SETTLE_S = 1.0
_STEP_S = 0.25
_CALM_S = 1.0
_QUICK = {"rounds": 1, "warm_s": 1.0, "loop_s": 1.0, "before_s": 3.0, "overload_s": 3.0, "after_s": 5.0}


@dataclass(frozen=True, slots=True)
class Options:
    """The command line."""

    repository: Path
    out: Path
    server: str
    model: str
    rows: int
    slo: float
    timeout: float
    connections: int
    rounds: int
    warm_s: float
    loop_s: float
    before_s: float
    overload_s: float
    after_s: float

    @property
    def phases(self) -> Phases:
        return Phases(_SETTLE_S, self.before_s, self.before_s + self.overload_s)

    @property
    def whole_s(self) -> float:
        return self.before_s + self.overload_s + self.after_s


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; 0, or 1 after a message on stderr that says what went wrong. A claim that misses is a result."""
    return status("bench-overload", lambda: run(parse(arguments), sys.argv[1:] if arguments is None else arguments))


def parse(arguments: Sequence[str] | None) -> Options:
    """The command line as Options; exits with 2 and the usage if it is wrong."""
    flags = Flags("loadtests.bench_overload", __doc__)
    flags.add("--repository", "folder of published models", Path("model_repository"), Path)
    flags.add("--out", "folder for the JSON file", Path("loadtests/results"), Path)
    flags.add(
        "--server", "command that takes --repository, --host, --port", f"{sys.executable} -m server.cli serve --grpc-port off"
    )
    flags.add("--model", f"of {', '.join(models.NAMES)}", "digits")
    flags.add("--rows", "rows in each request: with more of them one generator overloads a server beside it", 16, count)
    flags.add("--slo", "objective, as 50ms", 0.05, duration_s)
    flags.add("--timeout", "after which a client gives up, closes and connects again", 1.0, duration_s)
    flags.add("--connections", "independent clients", 1024, count)
    flags.add("--rounds", "rounds over the overloads, of which the median counts", 3, count)
    flags.add("--warm-s", "seconds of a closed loop of single rows before anything counts", 40.0, positive)
    flags.add("--loop-s", "seconds of each closed loop that finds the peak", 3.0, positive)
    flags.add("--before-s", "seconds of normal load before", 5.0, positive)
    flags.add("--overload-s", "seconds of overload", 8.0, positive)
    flags.add("--after-s", "seconds of normal load after", 8.0, positive)
    flags.add_quick(_QUICK)
    return Options(**flags.read(arguments))


def run(options: Options, arguments: Sequence[str]) -> Path:
    """Measure, print the tables, write the JSON file and return its path. Raises LoadTestError."""
    began_at = time.perf_counter()
    model, in_process = models.load(options.model, options.repository, 256, options.rows)
    limit = max(in_process.sweep(min(0.3, options.loop_s)).rows_per_s.values())
    requests = [models.v2_request(options.model, row) for row in model.rows]
    with tempfile.TemporaryDirectory(prefix="overload-") as scratch:
        copy_of(model.file.parent, Path(scratch), options.slo)
        with _server(options, Path(scratch)) as server:
            lane = Lane(options.model, server, requests, _LOOP)
            single = [{name: array[:1] for name, array in row.items()} for row in model.rows]
            measure(
                Lane(options.model, server, [models.v2_request(options.model, row) for row in single], _LOOP), options.warm_s
            )
            measure(lane, options.loop_s)  # this first one is for warming up, too
            loops = [measure(lane, options.loop_s)]
            if not loops[0].per_s:
                raise LoadTestError("no answer at all in a closed loop: there is no peak to overload")
            rounds = [_round(options, server, lane, loops, seed) for seed in range(options.rounds)]
    content = _content(options, arguments, limit, median(loops), rounds)
    file = write_json(options.out, "overload", content)
    print(text(content))
    print(f"{time.perf_counter() - began_at:.0f} s; written: {file}")
    return file


def _server(options: Options, repository: Path) -> Any:
    port = free_port()
    flags = ["--repository", str(repository), "--host", HOST, "--port", str(port)]
    return running([*shlex.split(options.server), *flags], port, ready_path="/v2/health/ready")


def _generator(options: Options) -> Generator:
    return Generator(1, options.connections, options.timeout, clients=Clients.INDEPENDENT)


def _round(options: Options, server: Child, lane: Lane, loops: list[Sample], seed: int) -> dict[str, Any]:
    """Every overload by its factor, and behind each a closed loop more."""
    found = {}
    for at, factor in enumerate(LEAST_GOODPUT):
        void: list[dict[str, Any]] = []
        while True:
            before = loops[-1].per_s
            loaded, watch = _episode(options, server, lane.requests, before, factor, seed * len(LEAST_GOODPUT) + at)
            loops.append(measure(lane, options.loop_s))
            one = told(options, loaded, watch, statistics.mean((before, loops[-1].per_s)))
            print(f"round {seed + 1}/{options.rounds}, {factor:g} x: {_line(one)}", flush=True)
            if one["generator_kept_up"] or len(void) + 1 == _MOST_TRIES:
                break
            void.append(one)
        found[f"{factor:g}"] = {**one, "void": void}
    return found


def _line(one: Mapping[str, Any]) -> str:
    void = "" if one["generator_kept_up"] else ", VOID: the generator sent late"
    return f"{one['kept']:.2f} of the peak of {one['peak_per_s']:,.0f}/s{void}"


def _episode(
    options: Options, server: Child, requests: Sequence[bytes], peak: float, factor: float, seed: int
) -> tuple[Loaded, MemoryWatch]:
    """One run: a normal load, an overload, a normal load again."""
    due_s = phased(options, peak, factor, seed)
    which = np.arange(len(due_s), dtype=np.int64) % len(requests)
    watch = MemoryWatch(server.pid)
    loaded = load(
        (HOST, server.port),
        [Traffic("overload", requests, due_s, which, options.slo)],
        _generator(options),
        duration_s=options.whole_s,
        server_pid=server.pid,
        on_tick=untold,
        beside=lambda: watch,
    )
    return loaded, watch


def phased(options: Options, peak: float, factor: float, seed: int) -> Seconds:
    """Due times: Poisson arrivals at the normal rate, at `factor` times the peak, at the normal rate."""
    phases = options.phases
    parts = [
        (0.0, phases.begins_s, _NORMAL),
        (phases.begins_s, options.overload_s, factor),
        (phases.ends_s, options.after_s, _NORMAL),
    ]
    return np.concatenate([
        start_s + schedule(Steady(), Spacing.POISSON, share * peak, length_s, 3 * seed + at)
        for at, (start_s, length_s, share) in enumerate(parts)
    ])  # fmt: skip


def told(options: Options, loaded: Loaded, watch: MemoryWatch, peak: float) -> dict[str, Any]:
    """What one run showed, as values for JSON. `kept` is goodput during the overload as a share of the peak; `generator_kept_up` is of that time."""
    record, phases = loaded.record(0), options.phases
    steps = time_line(record, options.slo, options.whole_s, n_bins=round(options.whole_s / _STEP_S))
    spans = {
        "before": (_SETTLE_S, phases.begins_s),
        "during": (phases.begins_s, phases.ends_s),
        "after": (phases.ends_s, options.whole_s),
    }
    found = recovery(steps, phases, _CALM_S)
    parts = {name: _phase(options, loaded, watch, span) for name, span in spans.items()}
    return {
        "peak_per_s": peak,
        "kept": (goodput_per_s(steps, *spans["during"]) or 0.0) / peak,
        "normal_p99_ms": found.normal_ms,
        "recovered_after_s": found.after_s,
        "generator_kept_up": parts["during"]["generator_kept_up"],
        "generator_niceness": loaded.generated.niceness,
        "generator_busy": loaded.generated.cpu_s / max(1e-9, loaded.generated.wall_s),
        "phases": parts,
        "time_line": [asdict(step) for step in steps],
    }


def _phase(options: Options, loaded: Loaded, watch: MemoryWatch, span: tuple[float, float]) -> dict[str, Any]:
    record = loaded.record(0)
    counted = part(record, (span[0] <= record.due_s) & (record.due_s < span[1]))
    counts, kept, length_s = tally(counted, options.slo), punctuality(counted, tolerance_s(options.slo)), span[1] - span[0]
    return {
        "scheduled_per_s": counts.scheduled / length_s,
        "sent_per_s": kept.sent / length_s,
        "goodput_per_s": counts.in_slo / length_s,
        **shares(counts),
        "latency_ms": quantiles_ms(counted),
        "generator_kept_up": kept.kept_up,
        "sent_late_by_generator": kept.late,
        "waited_for_own_connection": kept.held_back,
        "most_rss": watch.most(*span),
    }


def verdicts(rounds: Sequence[Mapping[str, Any]]) -> list[Verdict]:
    """The claims, by medians over the rounds in which the generator kept up; a round that never recovered counts as endless."""
    found = []
    earliest = next(iter(rounds[0].values()))
    first = next(iter([*earliest["void"], earliest]))["phases"]["before"]["most_rss"]
    for factor, least in LEAST_GOODPUT.items():
        episodes = [one[f"{factor:g}"] for one in rounds]
        where = f"{factor:g} x"
        kept = [Round(one["kept"], one["generator_kept_up"]) for one in episodes]
        found.append(over_rounds(f"{where}: goodput / peak", kept, Side.AT_LEAST, least))
        recovered = [Round(_recovered_s(one), one["phases"]["after"]["generator_kept_up"]) for one in episodes]
        found.append(over_rounds(f"{where}: s to the normal p99", recovered, Side.AT_MOST, _MOST_RECOVERY_S))
        memory = [Round(_growth(first, one["phases"])) for one in episodes]
        found.append(over_rounds(f"{where}: memory / before the first overload", memory, Side.AT_MOST, _MOST_MEMORY))
    return found


def _recovered_s(episode: Mapping[str, Any]) -> float:
    found: float | None = episode["recovered_after_s"]
    return math.inf if found is None else found


def _growth(before: float | None, phases: Mapping[str, Any]) -> float | None:
    known = [one for name in ("during", "after") if (one := phases[name]["most_rss"]) is not None]
    return max(known) / before if before and known else None


def _content(
    options: Options,
    arguments: Sequence[str],
    limit: float,
    loop: Sample,
    rounds: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    return {
        "kind": "overload",
        **heading("loadtests.bench_overload", arguments, asdict(options)),
        "normal_share": _NORMAL,
        "in_process_rows_per_s": limit,
        "closed_loop": {"connections": _LOOP, **asdict(loop)},
        "rounds": list(rounds),
        "verdicts": verdict_values(verdicts(rounds)),
    }


if __name__ == "__main__":
    as_program(main)
