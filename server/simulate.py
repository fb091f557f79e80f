"""The verb `simulate`: what a version will do under a workload, before anybody asks it. The work is in server.simulation."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server import __version__
from server.contract.errors import ContractError
from server.simulate_report import capacity_lines, run_table, run_values, who
from server.simulation.capacity import IN_SLO, Capacity, Limit, capacity, lasts_s
from server.simulation.errors import BadWorkload
from server.simulation.play import Played, Setting, play
from server.stage import Overrides, Stage, stage
from server.workload import Workload, configure, count, duration, positive, share, workload

LOADS = (0.3, 0.6, 0.9, 1.5)
"""Shares of the capacity that are shown when nothing else is asked for."""

FULL_LOOP = 0.995

MOST_REQUESTS = 5_000_000
"""In one run: some minutes of simulating."""


class SimulateVerb:
    """`ferry simulate`."""

    help = "predict latency, goodput and capacity of a model under a workload, from its profile alone"

    def configure(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("model", nargs="?", metavar="MODEL", help="the model to ask; a scenario may name its own")
        device_flags(parser)
        group = configure(parser)
        group.add_argument("--tell-slo", action="store_true", help="requests bring their SLO along as V2's parameter `timeout`")
        group.add_argument(
            "--scenario", type=Path, metavar="FILE", help="a TOML file as for ferry loadtest: several kinds of traffic at once"
        )
        modes = parser.add_argument_group("what is told (default: the capacity, and what happens at some shares of it)")
        modes.add_argument("--load", type=positive, nargs="+", metavar="SHARE", help="runs at these shares of the capacity")
        modes.add_argument(
            "--find-capacity",
            action="store_true",
            help=f"the highest rate with {100 * IN_SLO:g} of 100 answers in the SLO, and no more",
        )
        modes.add_argument("--duration", type=duration, help="of a run, as 10s, 1m (default: what --requests need)")
        modes.add_argument("--requests", type=count, default=10_000, help="in each run, about (default: %(default)s)")
        modes.add_argument(
            "--json", type=Path, metavar="FILE", help="write all figures there, named as those of ferry loadtest"
        )

    def run(self, args: argparse.Namespace) -> int:
        """2, with one line that says what to change, for what cannot be simulated."""
        try:
            return _run(args)
        except (BadWorkload, ContractError) as error:
            print(f"ferry simulate: {error}", file=sys.stderr)
            return 2


def device_flags(parser: argparse.ArgumentParser) -> None:
    """Flags about the machine; `plan` has them too."""
    parser.add_argument(
        "--repository", type=Path, default=Path("model_repository"), metavar="FOLDER", help="(default: %(default)s)"
    )
    group = parser.add_argument_group("how it is served")
    group.add_argument("--model-version", type=count, metavar="N", help="(default: the newest)")
    group.add_argument(
        "--instances", type=count, metavar="N", help="as if model.toml said so (default: what it says, else as profiled)"
    )
    group.add_argument(
        "--slower",
        type=positive,
        default=1.0,
        metavar="FACTOR",
        help="the device is so many times slower than profiled, as ferry_profile_ratio tells (default: 1)",
    )
    group.add_argument(
        "--beside", type=share, default=0.0, metavar="CORES", help="processor cores that other programs use (default: 0)"
    )
    group.add_argument("--seed", type=int, default=0, help="of arrivals, lengths and batch times (default: 0)")


@dataclass(frozen=True, slots=True)
class Run:
    """One run; `load` is its share of the capacity, if that is known."""

    factor: float
    load: float | None
    duration_s: float
    played: Played


def _run(args: argparse.Namespace) -> int:
    work = workload(args, args.scenario, args.duration)
    scene = stage(args.repository, work.asked, args.tell_slo, Overrides(args.model_version, args.instances))
    setting = Setting(scene.versions, args.seed, args.slower, args.beside)
    is_search = args.find_capacity or args.load is not None or any(one.rate is None for one in work.asked)
    found = capacity(setting, scene.traffic, args.requests) if is_search else None
    runs = [_play(args, work, setting, scene, factor, load) for factor, load in _factors(args, found)]
    for version in scene.asked:
        print(who(version, scene.traffic))
    if found is not None:
        print("\n".join(capacity_lines(found, scene.traffic)))
    if runs:
        print(run_table(scene.traffic, [(run.load, run.played) for run in runs]))
    notices = [*scene.notices, *overloads(runs)]
    for notice in notices:
        print(f"! {notice}")
    if args.json is not None:
        write_values(args.json, _values(args, scene, found, runs) | {"notices": notices})
    return 0


def overloads(runs: Sequence[Run]) -> list[str]:
    """What is to be said of runs in which the event loop had too much to do."""
    if all(run.played.loop_busy < FULL_LOOP for run in runs):
        return []
    return [
        "more requests came than the event loop can read: then the server sheds load in ways that are not simulated, and does better than this"
    ]


def _factors(args: argparse.Namespace, found: Capacity | None) -> list[tuple[float, float | None]]:
    """At which multiples of the rates to run, and what share of the capacity that is."""
    if found is None:
        return [(1.0, None)]
    if found.limit is Limit.ALONE:
        return []
    loads = args.load or (() if args.find_capacity else LOADS)
    return [(found.factor * load, load) for load in loads]


def _play(args: argparse.Namespace, work: Workload, setting: Setting, scene: Stage, factor: float, load: float | None) -> Run:
    duration_s = work.duration_s or lasts_s(scene.traffic, factor, args.requests)
    _check_duration(scene, factor, duration_s)
    return Run(factor, load, duration_s, play(setting, scene.traffic, factor, duration_s))


def _check_duration(scene: Stage, factor: float, duration_s: float) -> None:
    n_requests = factor * duration_s * sum(one.rate for one in scene.traffic)
    if n_requests > MOST_REQUESTS:
        raise BadWorkload(
            f"{n_requests:,.0f} requests are more than can be simulated in a few minutes; give a shorter --duration"
        )
    if any(duration_s <= one.start_s for one in scene.traffic):
        raise BadWorkload("not all traffic falls into the run: give a longer --duration")


def _values(args: argparse.Namespace, scene: Stage, found: Capacity | None, runs: Sequence[Run]) -> dict[str, Any]:
    """For JSON, in the names of ferry loadtest, whose `compare` reads it too."""
    flags = {
        name: str(value) if isinstance(value, Path) else value
        for name, value in vars(args).items()
        if name not in ("verb", "json")
    }
    made: dict[str, Any] = {
        "kind": "simulation: the scheduler in virtual time, batch times as profiled",
        "configuration": flags,
        "environment": {
            "ferry": __version__,
            "profiled_on": {str(one.key): one.profile.device.to_json() for one in scene.asked},
        },
        "valid": True,
    }
    if found is not None:
        made["capacity"] = {
            "rate": found.factor * sum(one.rate for one in scene.traffic), "factor": found.factor, "in_slo": IN_SLO,
            "limit": found.limit.name.lower(), "slo_ms": min(one.slo_s for one in scene.traffic) * 1e3,
        }  # fmt: skip
    values = [run_values(scene.traffic, run.played, run.factor, run.load) for run in runs]
    return made | {"runs": values} | (values[0] if len(values) == 1 else {})


def write_values(file: Path, content: dict[str, Any]) -> None:
    """Raises BadWorkload for a file that cannot be written."""
    try:
        file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise BadWorkload(f"cannot write {file}: {error.strerror}") from None
