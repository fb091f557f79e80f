"""What `ferry simulate` and `ferry plan` are asked: flags and scenario files in the words of `ferry loadtest`, as traffic. Nothing is simulated here."""

from __future__ import annotations

import argparse
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from server.contract.durations import parse_duration
from server.contract.errors import ContractError
from server.simulation.arrivals import Shaped, Trace, parse_arrivals, parse_trace
from server.simulation.errors import BadWorkload
from server.simulation.lengths import FORMS, Lengths, listed, parse_lengths

TOP = {
    "title": str, "duration_s": (int, float), "preflight": bool, "before": list, "traffic": list, "action": list, "slow_clients": dict,
}  # fmt: skip
TRAFFIC = {
    "name": str, "model": str, "arrivals": str, "lengths": str, "binary": bool, "rows": int, "rate": (int, float),
    "factor": (int, float), "start_s": (int, float), "slo_ms": (int, float), "slo_factor": (int, float), "input": str,
}  # fmt: skip
"""The keys of a scenario file; docs/loadtests.md says what they mean."""

_ONLY_ON_THE_WIRE = {"before": "posts to a server", "action": "posts to a server", "slow_clients": "has slow clients"}


@dataclass(frozen=True, slots=True)
class Asked:
    """One kind of traffic before its model is known. `rate`: None where it is searched for; `slo_s`: None for the model's own."""

    model: str
    name: str
    arrivals: Shaped | Trace
    rate: float | None
    slo_s: float | None
    lengths: Lengths | None
    rows: int
    is_binary: bool
    start_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Workload:
    """All of it. `duration_s`: None if nothing says how long."""

    asked: tuple[Asked, ...]
    duration_s: float | None


def duration(text: str) -> float:
    """`50ms`, `1.5s`, `2m`; for argparse."""
    try:
        return parse_duration(text)
    except ContractError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def positive(text: str) -> float:
    """A finite number above zero."""
    value = _number(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not above zero and finite")
    return value


def share(text: str) -> float:
    """A finite number from zero on."""
    value = _number(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a finite number from zero on")
    return value


def count(text: str) -> int:
    """A whole number from 1 on."""
    value = _number(text)
    if value < 1 or value != int(value):
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 1 on")
    return int(value)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None


def configure(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Declare the flags that say what is asked, in a group of their own."""
    group = parser.add_argument_group("what is asked (as of ferry loadtest)")
    group.add_argument("--rate", type=positive, help="requests per second")
    group.add_argument("--slo", type=duration, help="as if model.toml said so, as 50ms (default: what it says)")
    group.add_argument("--rows", type=count, default=1, help="rows in each request (default: %(default)s)")
    group.add_argument(
        "--lengths", default="fixed:16",
        help="of a free axis: fixed:N, uniform:LOW:HIGH, lognormal:MEDIAN:SIGMA:MAX or a file (default: %(default)s)",
    )  # fmt: skip
    group.add_argument("--binary", action="store_true", help="binary tensors instead of JSON")
    group.add_argument(
        "--arrivals", default="poisson",
        help="poisson, constant, burst:FACTOR:SHARE:PERIOD_S, ramp:FIRST:LAST or trace:FILE (default: %(default)s)",
    )  # fmt: skip
    return group


def workload(args: argparse.Namespace, scenario: Path | None, duration_s: float | None) -> Workload:
    """What the flags and the scenario ask for. Raises BadWorkload."""
    if scenario is None:
        if not args.model:
            raise BadWorkload("which model? give MODEL, or --scenario with models of its own")
        return Workload((_asked({}, args),), duration_s)
    found = _read_scenario(scenario)
    asked = tuple(_asked(one, args) for one in found["traffic"])
    return Workload(_named_apart(asked), duration_s or found.get("duration_s"))


def _asked(one: Mapping[str, Any], args: argparse.Namespace) -> Asked:
    model = one.get("model", args.model or "").replace("{model}", args.model or "")
    if not model:
        raise BadWorkload("which model? give MODEL, or `model` in the scenario")
    if "input" in one:
        raise BadWorkload(
            "the scenario takes its inputs from a file, and a simulation knows lengths only: say `lengths` instead"
        )
    arrivals = _arrivals(one.get("arrivals", args.arrivals))
    base = args.rate or (1.0 if "factor" in one else None)
    rate = one.get("rate", base and base * one.get("factor", 1.0))
    if isinstance(arrivals, Trace):
        rate = arrivals.rate
    slo_s = one["slo_ms"] / 1e3 if "slo_ms" in one else args.slo and args.slo * one.get("slo_factor", 1.0)
    if (rate is not None and not 0 < rate < math.inf) or (slo_s is not None and not 0 < slo_s < math.inf):
        raise BadWorkload(f"traffic {one.get('name', model)!r}: rate {rate} and SLO {slo_s} s must be above zero and finite")
    rows = one.get("rows", args.rows)
    if rows < 1:
        raise BadWorkload(f"traffic {one.get('name', model)!r}: rows = {rows} is not a whole number from 1 on")
    lengths = _lengths(one.get("lengths", args.lengths))
    return Asked(
        model,
        one.get("name", model),
        arrivals,
        rate,
        slo_s,
        lengths,
        rows,
        one.get("binary", args.binary),
        one.get("start_s", 0.0),
    )


def _named_apart(asked: tuple[Asked, ...]) -> tuple[Asked, ...]:
    names = [one.name for one in asked]
    return tuple(
        replace(one, name=f"{one.name} {at + 1}") if names.count(one.name) > 1 else one for at, one in enumerate(asked)
    )


def _arrivals(text: str) -> Shaped | Trace:
    name, _, file = text.partition(":")
    return parse_trace(_lines(Path(file)), file) if name == "trace" else parse_arrivals(text)


def _lengths(text: str) -> Lengths:
    found = parse_lengths(text)
    if found is None and not Path(text).exists():
        raise BadWorkload(f"cannot read {text!r}: there is no such file; for lengths, {FORMS}")
    return found or listed(_lines(Path(text)), text)


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise BadWorkload(f"cannot read {str(file)!r}: {error}") from None


def _read_scenario(file: Path) -> dict[str, Any]:
    try:
        found = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadWorkload(f"scenario {str(file)!r}: {error}") from None
    _check(str(file), found, TOP)
    for name, why in _ONLY_ON_THE_WIRE.items():
        if name in found:
            raise BadWorkload(f"scenario {str(file)!r} {why} (`{name}`), which cannot be simulated; leave that out")
    if not found.get("traffic"):
        raise BadWorkload(f"scenario {str(file)!r} has no [[traffic]]")
    for one in found["traffic"]:
        _check(f"{file}: traffic", one, TRAFFIC)
    return found


def _check(where: str, found: Any, known: Mapping[str, Any]) -> None:
    for name, value in found.items() if isinstance(found, dict) else ():
        if name not in known:
            raise BadWorkload(f"scenario {where}: unknown key {name!r}; known are {', '.join(known)}")
        if not isinstance(value, known[name]):
            raise BadWorkload(f"scenario {where}: {name} = {value!r} has the wrong type")
