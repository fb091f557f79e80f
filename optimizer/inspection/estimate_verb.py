"""The verb `estimate`: reads what is known of a version, asks the calculator, prints. The figures are in optimizer.estimate."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from optimizer.errors import OptimizeError
from server.contract.durations import format_duration
from server.contract.errors import ContractError

if TYPE_CHECKING:
    from optimizer.estimate import Assumed, Change, Estimate, Measured

_UNITS = {"k": 1e3, "M": 1e6, "B": 1e9}


class EstimateVerb:
    """`ferry estimate`."""

    help = "reckon what quantizing, pruning, factoring or distilling a model may bring, before any of it is tried"

    def configure(self, parser: argparse.ArgumentParser) -> None:
        add = parser.add_argument
        add(
            "version",
            nargs="?",
            metavar="VERSION",
            help="MODEL/VERSION, MODEL (its newest) or a folder: its own figures are used",
        )
        add("--parameters", type=_count, metavar="N", help="of a model that is not there yet, like 22.7M")
        add("--like", metavar="VERSION", help="take its measured latency, scaled to --parameters")
        add("--repository", type=Path, default=Path("model_repository"), metavar="FOLDER", help="(default: %(default)s)")
        change = parser.add_argument_group("what is to be done")
        change.add_argument("--bits", type=int, metavar="N", help="of each weight (default: as they are)")
        change.add_argument(
            "--quantized", type=float, default=1.0, metavar="SHARE", help="of the weights get them (default: all)"
        )
        change.add_argument("--sparsity", type=float, default=0.0, metavar="SHARE", help="of the weights that go")
        change.add_argument("--unstructured", action="store_true", help="single weights go, not whole channels")
        change.add_argument("--rank", type=float, metavar="SHARE", help="of full rank that each matrix keeps")
        change.add_argument("--student", type=_count, metavar="N", help="parameters of a smaller model that learns from it")
        change.add_argument(
            "--openvino", action="store_true", help="served by OpenVINO in bf16, not by onnxruntime's own kernels"
        )
        machine = parser.add_argument_group("the machine, where no version is named")
        machine.add_argument("--positions", type=_count, metavar="N", help="tokens of one row (default: 1)")
        machine.add_argument("--cores", type=_count, metavar="N", help="(default: 1)")
        parser.add_argument("--json", action="store_true", help="print the estimate as JSON")

    def run(self, args: argparse.Namespace) -> int:
        """2, with one line that says what to change, for what cannot be estimated."""
        try:
            return _run(args)
        except (OptimizeError, ContractError) as error:
            print(f"ferry estimate: {error}", file=sys.stderr)
            return 2


def _run(args: argparse.Namespace) -> int:
    from optimizer.estimate import estimate

    basis = _basis(args)
    n_parameters = _parameters(args, basis)
    change = _change(args, basis)
    found = estimate(n_parameters, change, basis)
    if args.json:
        print(json.dumps({"before": {"n_parameters": n_parameters}, **found.to_json()}, indent=1))
    else:
        print("\n".join(_lines(n_parameters, found)))
    return 0


def _basis(args: argparse.Namespace) -> Measured | Assumed:
    from optimizer.estimate import Assumed
    from optimizer.inspection.measured import measured_of
    from optimizer.inspection.versions import find_version

    if args.version and (args.like or args.parameters):
        raise OptimizeError("a version has its own parameters and figures; leave --like and --parameters out, or the version")
    named = args.version or args.like
    if not named:
        return Assumed(args.positions or 1, args.cores or 1)
    if args.positions or args.cores:
        raise OptimizeError(f"--positions and --cores are for models that were not measured; {named} was")
    return measured_of(find_version(named, args.repository))


def _parameters(args: argparse.Namespace, basis: Measured | Assumed) -> int:
    from optimizer.estimate import Measured

    if args.parameters is not None:
        given: int = args.parameters
        return given
    if not isinstance(basis, Measured):
        raise OptimizeError("of which model? name a version, or give --parameters, like 22.7M")
    return basis.n_parameters


def _change(args: argparse.Namespace, basis: Measured | Assumed) -> Change:
    """Where no bits are given they stay as they are."""
    from optimizer.estimate import FLOAT_BITS, Change, Measured, Pruning, Runtime

    bits = args.bits if args.bits is not None else basis.bits if isinstance(basis, Measured) else FLOAT_BITS
    if args.unstructured and not args.sparsity:
        raise OptimizeError("--unstructured says which weights go; say how many with --sparsity")
    pruning = Pruning.UNSTRUCTURED if args.unstructured else Pruning.STRUCTURED
    runtime = basis.runtime if isinstance(basis, Measured) else Runtime.ONNXRUNTIME
    runtime = Runtime.OPENVINO if args.openvino else runtime
    return Change(bits, args.quantized, args.sparsity, pruning, args.rank, args.student, runtime)


def _lines(n_parameters: int, found: Estimate) -> list[str]:
    speed, latency = found.speed_up, found.latency_s
    fast = "as fast as before" if speed.low == speed.high == 1 else f"{speed.low:.2g} to {speed.high:.2g} times as fast"
    times = dict.fromkeys((format_duration(latency.low), format_duration(latency.high)))
    return [
        f"parameters  {n_parameters:,} → {found.n_parameters:,}",
        f"size        {found.size_bytes / 1e6:,.2f} MB ({found.size_ratio:.2f}x)",
        f"memory      {found.memory_bytes / 1e6:,.2f} MB",
        f"speed       {fast}; one row {' to '.join(times)}",
        f"risk        {found.risk.value}: {'; '.join(found.reasons)}",
        *(f"measured: {line}" for line in found.measured),
        *(f"assumed: {line}" for line in found.assumptions),
    ]


def _count(text: str) -> int:
    unit = _UNITS.get(text[-1:], 1.0)
    try:
        value = float(text if unit == 1 else text[:-1]) * unit
    except ValueError:
        value = 0.0
    if not 1 <= value <= 1e15:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 1 or more, like 17850, 22.7M or 1.2B")
    return round(value)
