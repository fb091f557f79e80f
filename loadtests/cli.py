"""The verb `ferry loadtest`: one open-loop run, or another mode. Messages and exit status; the work is elsewhere.

0: a valid run. 1: an error, or a result that does not count (generator late, interrupted, nothing answered, wrong answers).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loadtests import flags
from loadtests.capacity import Found, capacity_result, find_capacity
from loadtests.closed_mode import closed_result
from loadtests.compare import compare
from loadtests.errors import BadInput, LoadTestError
from loadtests.html import write_html
from loadtests.job import make_ready
from loadtests.listening import server_pid
from loadtests.probe import Prober
from loadtests.report import write_json
from loadtests.scenario import run_scenario
from loadtests.sweep import sweep
from loadtests.text import capacity_text, closed_text, summary, sweep_text


class LoadTestVerb:
    """The verb."""

    help = "measure a V2 server honestly: open loop, SLO, capacity, overload"

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Declare the flags."""
        flags.configure(parser)

    def run(self, args: argparse.Namespace) -> int:
        """Measure and say what was found; the exit status."""
        try:
            return _run(args)
        except LoadTestError as error:
            print(f"ferry loadtest: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("ferry loadtest: interrupted", file=sys.stderr)
            return 130


def _run(args: argparse.Namespace) -> int:
    match args.words:
        case []:
            pass
        case ["compare", first, second]:
            print(compare(Path(first), Path(second)))
            return 0
        case words:
            raise BadInput(f"{' '.join(words)!r}: the only words are compare A.json B.json")
    if args.scenario is not None:
        return _finish(args, run_scenario(args), summary)
    if not args.model:
        raise BadInput("which model? give --model")
    job = make_ready(flags.wanted(args))
    pid = server_pid(args.pid, *job.target.address)
    if args.closed is not None:
        return _finish(args, closed_result(job, args.closed, args.duration, pid, flags.plain(args)), closed_text)
    prober = Prober(job, flags.generator(args), pid, flags.plain(args))
    if args.sweep or args.find_capacity:
        return _search(args, prober)
    return _finish(args, prober.run(args.rate, args.duration, args.seed), summary)


def _search(args: argparse.Namespace, prober: Prober) -> int:
    if args.slo is None:
        raise BadInput("capacity is the highest rate within an SLO: give --slo 50ms")
    if args.arrivals != "poisson":
        raise BadInput(f"capacity is a Poisson rate: leave out --arrivals {args.arrivals}")
    found: Found | None = None
    if args.find_capacity or args.rate is None:
        found = find_capacity(prober, args.slo, args.probe, args.rate)
        print(capacity_text(found))
    if not args.sweep:
        assert found is not None
        return _finish(args, capacity_result(found, flags.plain(args)), None)
    capacity = found.rate if found is not None else args.rate
    if not capacity:
        raise BadInput("no rate is within the SLO: there is nothing to sweep around")
    return _finish(args, sweep(prober, capacity, args.probe, found, flags.plain(args)), sweep_text)


def _finish(args: argparse.Namespace, content: Mapping[str, Any], show: Any) -> int:
    if show is not None:
        print(show(content))
    if args.out is not None:
        file = write_json(args.out, "loadtest", dict(content))
        print(f"written: {file} and {write_html(file.with_suffix('.html'), content)}")
    return 0 if content["valid"] else 1
