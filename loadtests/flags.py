"""The flags of `ferry loadtest`, and how they become what the other modules want."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from loadtests.clients import Clients
from loadtests.job import FIRST_PASS, Wanted
from loadtests.load import Generator

ADMIN_TOKEN = "FERRY_ADMIN_TOKEN"
API_KEY = "FERRY_API_KEY"
"""The environment variable that holds the token of a server's admin routes."""


def duration_s(text: str) -> float:
    """`50ms`, `1.5s`, `2m` or seconds, above zero."""
    for unit, factor in (("ms", 1e-3), ("us", 1e-6), ("s", 1.0), ("m", 60.0)):
        if text.endswith(unit):
            return positive(text.removesuffix(unit)) * factor
    return positive(text)


def positive(text: str) -> float:
    """A finite number above zero."""
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not above zero and finite")
    return value


def count(text: str) -> int:
    """A whole number from 1 on."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 1 on")
    return value


def names_of(known: Sequence[str]) -> Callable[[str], str]:
    """The type of a flag that takes some of these names, by commas."""

    def convert(given: str) -> str:
        if unknown := [one for one in given.split(",") if one not in known]:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)} is not known; known are {', '.join(known)}")
        return given

    return convert


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare all flags."""
    parser.add_argument("words", nargs="*", metavar="compare A B", help="compare two results (JSON files of earlier runs)")
    _what(parser.add_argument_group("what is asked"))
    _when(parser.add_argument_group("when"))
    _how(parser.add_argument_group("how it is measured"))
    _modes(parser.add_argument_group("instead of one open-loop run"))


def _what(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--url", default="http://127.0.0.1:8000", help="any V2 server; grpc://127.0.0.1:8001 for gRPC (default: %(default)s)"
    )
    group.add_argument("--model", help="the model to ask")
    group.add_argument("--model-version", help="its version (default: the server's choice)")
    group.add_argument(
        "--input",
        type=Path,
        metavar="FILE",
        help=".npz, .jsonl, or .txt with a line per row: text for BYTES, else prepared token ids (default: random tensors)",
    )
    group.add_argument("--n-inputs", type=count, default=64, help="different random inputs (default: %(default)s)")
    group.add_argument("--rows", type=count, default=1, help="rows in each request (default: %(default)s)")
    group.add_argument(
        "--lengths",
        default="fixed:16",
        help="of free axes: fixed:N, uniform:LOW:HIGH, lognormal:MEDIAN:SIGMA:MAX or a file (default: %(default)s)",
    )
    group.add_argument("--binary", action="store_true", help="binary tensors instead of JSON (gRPC has no others)")
    group.add_argument(
        "--api-key", help=f"goes along with every request as a bearer token; not written to results (default: {API_KEY})"
    )
    group.add_argument("--tell-slo", action="store_true", help="send the SLO along as V2's parameter `timeout`")


def _when(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--rate", type=positive, help="requests per second")
    group.add_argument("--duration", type=duration_s, default=10.0, help="of a run, as 500ms, 10s, 1m (default: 10s)")
    group.add_argument(
        "--arrivals",
        default="poisson",
        help="poisson, constant, burst:FACTOR:SHARE:PERIOD_S, ramp:FIRST:LAST or trace:FILE (default: %(default)s)",
    )
    group.add_argument("--seed", type=int, default=0, help="of arrivals and inputs (default: %(default)s)")


def _how(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--slo", type=duration_s, help="answers later than this are late, as 50ms")
    group.add_argument("--timeout", type=duration_s, default=10.0, help="of a request, from when it was due (default: 10s)")
    group.add_argument("--connections", type=count, default=1024, help="at most (default: %(default)s)")
    group.add_argument(
        "--clients",
        choices=[one.value for one in Clients],
        default=Clients.POOLED.value,
        help="pooled: a request takes any free connection; independent: each of --connections is a client with arrivals of its own, "
        "which wait for it alone (default: %(default)s)",
    )
    group.add_argument("--processes", type=count, default=1, help="generators (default: %(default)s)")
    group.add_argument("--pid", type=int, help="of the server, for its CPU (default: whoever listens on the port)")
    group.add_argument(
        "--verify",
        nargs="?",
        const=FIRST_PASS,
        metavar="FILE",
        help="compare answers with expected outputs (.npz or .jsonl), or without a file with those of a first pass",
    )
    group.add_argument("--rtol", type=positive, default=1e-3, help="tolerance of --verify (default: %(default)s)")
    group.add_argument("--atol", type=positive, default=1e-5, help="tolerance of --verify (default: %(default)s)")
    group.add_argument("--out", type=Path, metavar="FOLDER", help="write the result there as JSON and as an HTML report")


def _modes(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--closed", type=count, metavar="N", help="a closed loop of N connections, for comparison")
    group.add_argument("--find-capacity", action="store_true", help="the highest Poisson rate with a p99 within --slo")
    group.add_argument(
        "--sweep", action="store_true", help="goodput and latency from 0.1 to 4 times the capacity (--rate, or found)"
    )
    group.add_argument("--probe", type=duration_s, default=10.0, help="duration of one try of these two (default: 10s)")
    group.add_argument("--scenario", metavar="NAME|FILE", help="a TOML file, or one of those that come along")
    group.add_argument("--admin-url", metavar="URL", help="http://HOST:PORT for a scenario's actions (default: --url)")
    group.add_argument(
        "--admin-token", help=f"bearer token for a scenario's actions; not written to results (default: {ADMIN_TOKEN})"
    )


def wanted(args: argparse.Namespace) -> Wanted:
    """The traffic that the flags ask for."""
    return Wanted(
        url=args.url,
        model=args.model or "",
        version=args.model_version,
        arrivals=args.arrivals,
        rate=args.rate,
        slo_s=args.slo,
        tell_slo=args.tell_slo,
        input=args.input,
        n_inputs=args.n_inputs,
        rows=args.rows,
        lengths=args.lengths,
        binary=args.binary,
        verify=args.verify,
        rtol=args.rtol,
        atol=args.atol,
        seed=args.seed,
        key=args.api_key or os.environ.get(API_KEY),
    )


def admin_token(args: argparse.Namespace) -> str | None:
    """The flag, or the variable that the server reads too."""
    return args.admin_token or os.environ.get(ADMIN_TOKEN)


def generator(args: argparse.Namespace) -> Generator:
    """How the flags ask to generate it."""
    return Generator(args.processes, args.connections, args.timeout, clients=Clients(args.clients))


def plain(args: argparse.Namespace) -> dict[str, object]:
    """All flags as values for JSON, less those that are secrets."""
    left_out = ("verb", "words", "out", "admin_token", "api_key")
    chosen = {name: value for name, value in vars(args).items() if name not in left_out}
    return {name: str(value) if isinstance(value, Path) else value for name, value in chosen.items()}
