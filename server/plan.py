"""The verb `plan`: how many machines a rate needs within an SLO. The work is in server.simulation."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from server.contract.durations import format_duration
from server.contract.errors import ContractError
from server.simulate import device_flags, write_values
from server.simulate_report import ms, n_of, run_values, who
from server.simulation.capacity import IN_SLO
from server.simulation.errors import BadWorkload
from server.simulation.play import Setting
from server.simulation.sizing import Size, size
from server.simulation.traffic import Traffic
from server.stage import Overrides, Stage, stage
from server.workload import configure, count, share, workload

HEADROOM = 0.25
"""Reserve on top of the rate: real peaks are higher than the rates that people plan for."""


class PlanVerb:
    """`ferry plan`."""

    help = "say how many machines like the one profiled a rate needs within an SLO"

    def configure(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("model", metavar="MODEL", help="the model to be asked")
        device_flags(parser)
        configure(parser)
        group = parser.add_argument_group("how it is planned")
        group.add_argument(
            "--headroom", type=share, default=HEADROOM, metavar="SHARE",
            help="plan for a rate that is higher by this share (default: %(default)s)",
        )  # fmt: skip
        group.add_argument("--requests", type=count, default=10_000, help="in each run, about (default: %(default)s)")
        group.add_argument("--json", type=Path, metavar="FILE", help="write the plan there")

    def run(self, args: argparse.Namespace) -> int:
        """2, with one line that says what to change, for what cannot be planned."""
        try:
            return _run(args)
        except (BadWorkload, ContractError) as error:
            print(f"ferry plan: {error}", file=sys.stderr)
            return 2


def _run(args: argparse.Namespace) -> int:
    asked = workload(args, None, None).asked
    if asked[0].rate is None:
        raise BadWorkload("for which rate? give --rate")
    scene = stage(args.repository, asked, False, Overrides(args.model_version, args.instances))
    found = size(Setting(scene.versions, args.seed, args.slower, args.beside), scene.traffic[0], args.headroom, args.requests)
    if not isinstance(found, Size):
        played = found.played.traffic[0]
        raise BadWorkload(
            f"no number of machines can: served alone, without any waiting, only {played.in_slo_share:.1%} of the requests are answered within "
            f"{format_duration(scene.traffic[0].slo_s)} (p99 {ms(played.latency_s['p99'])} ms); allow more time, send less at once, or use a "
            "faster model"
        )
    print("\n".join(_lines(args, scene, scene.traffic[0], found)))
    if args.json is not None:
        write_values(args.json, _values(args, scene, found))
    return 0


def _lines(args: argparse.Namespace, scene: Stage, traffic: Traffic, found: Size) -> list[str]:
    version, figures, n = scene.asked[0], found.usual.traffic[0], found.machines
    slo = format_duration(traffic.slo_s)
    each = f"{n_of(found.instances, 'instance')} of {n_of(version.placement.threads, 'thread')}"
    lines = [
        who(version, scene.traffic),
        f"{traffic.rate:,.6g} requests/s and {args.headroom:.0%} more, {IN_SLO:.0%} of them within {slo}: "
        f"{n_of(n, 'machine')} with {each}" + (f", {n_of(n * found.instances, 'instance')} in all" if n > 1 else ""),
        f"one machine can take {found.one.factor * traffic.rate:,.1f}/s; it is limited by {found.one.limit.value}",
        f"at {traffic.rate / n:,.1f}/s each: p50 {ms(figures.latency_s['p50'])} ms, p99 {ms(figures.latency_s['p99'])} ms, "
        f"{figures.in_slo_share:.2%} in the SLO, device {found.usual.device_busy[version.key]:.0%} busy; the rate may grow by {found.reserve:.0%}",
    ]
    if n > 1:
        lines.append(
            "assumed: machines like the one profiled, and a load balancer that gives each the same share of requests, at random"
        )
    return [*lines, *(f"! {notice}" for notice in scene.notices)]


def _values(args: argparse.Namespace, scene: Stage, found: Size) -> dict[str, Any]:
    traffic = scene.traffic[0]
    return {
        "kind": "plan",
        "model": str(traffic.model), "rate": traffic.rate, "slo_ms": traffic.slo_s * 1e3, "in_slo": IN_SLO, "headroom": args.headroom,
        "machines": found.machines, "instances_per_machine": found.instances, "instances": found.machines * found.instances,
        "one_machine": {"rate": found.one.factor * traffic.rate, "limit": found.one.limit.name.lower()},
        "reserve": found.reserve,
        "usual": run_values(scene.traffic, found.usual, 1 / found.machines, None),
        "profiled_on": scene.asked[0].profile.device.to_json(),
        "notices": list(scene.notices),
    }  # fmt: skip
