"""One kind of traffic as asked for, and made ready: its request bytes, its checks, its schedule at any rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from loadtests.arrivals import Seconds, Shape, Spacing, Trace, parse_shape, read_trace, schedule
from loadtests.data import InputMeta
from loadtests.errors import BadInput
from loadtests.inputs import Asked, Row, lengths_of, prepare, random_rows
from loadtests.load import Traffic
from loadtests.protocols import Protocol
from loadtests.target import Target, metadata, target, try_out
from loadtests.verify import Verifier, first_pass, from_file

FIRST_PASS = "first-pass"


@dataclass(frozen=True, slots=True)
class Wanted:
    """One kind of traffic, as flags or a scenario tell it. `rate` is None only where it is searched for or recorded."""

    url: str
    model: str
    version: str | None = None
    name: str | None = None
    arrivals: str = "poisson"
    rate: float | None = None
    start_s: float = 0.0
    slo_s: float | None = None
    tell_slo: bool = False
    input: Path | None = None
    n_inputs: int = 64
    rows: int = 1
    lengths: str = "fixed:16"
    binary: bool = False
    verify: str | None = None
    rtol: float = 1e-3
    atol: float = 1e-5
    preflight: bool = True
    seed: int = 0
    key: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Job:
    """Traffic that is ready to be scheduled."""

    wanted: Wanted
    target: Target
    requests: Sequence[bytes]
    arrivals: tuple[Shape, Spacing] | Trace
    verifier: Verifier | None
    lengths: Sequence[int] = ()

    def traffic(self, rate: float | None, duration_s: float, seed: int) -> Traffic:
        """The schedule of a run: at `rate` for `duration_s`, or as recorded within it."""
        due_s = self._due_s(rate, duration_s - self.wanted.start_s, seed) + self.wanted.start_s
        if not len(due_s):
            raise BadInput("not one request falls into the run: give a longer --duration or a higher --rate")
        n = len(self.requests)
        which = np.arange(len(due_s)) % n
        if isinstance(self.arrivals, Trace) and self.arrivals.lengths is not None:
            which = np.unique(self.arrivals.lengths, return_inverse=True)[1][: len(due_s)]
        elif n > 1:
            which = np.random.default_rng(seed + 1).permutation(which)
        name = self.wanted.name or self.wanted.model
        return Traffic(name, self.requests, due_s, which.astype(np.int64), self.wanted.slo_s, self.verifier, self.lengths)

    def span_s(self, duration_s: float) -> float:
        """How long a run of at most `duration_s` lasts: a recorded one ends with its last request, and so do its rates."""
        if not isinstance(self.arrivals, Trace):
            return duration_s
        return min(duration_s, float(self.arrivals.due_s[-1]) + self.wanted.start_s or duration_s)

    def _due_s(self, rate: float | None, duration_s: float, seed: int) -> Seconds:
        if isinstance(self.arrivals, Trace):
            return self.arrivals.due_s[self.arrivals.due_s <= duration_s]
        if rate is None:
            raise BadInput("an open loop needs --rate (or --arrivals trace:FILE, --find-capacity, --sweep, --closed N)")
        return schedule(*self.arrivals, rate, duration_s, seed)


def make_ready(wanted: Wanted) -> Job:
    """Read the inputs, ask the server for its metadata and for one answer. Raises LoadTestError."""
    name, _, file = wanted.arrivals.partition(":")
    arrivals = read_trace(Path(file)) if name == "trace" else parse_shape(wanted.arrivals)
    to = target(wanted.url, wanted.model, wanted.version, wanted.key)
    if wanted.binary and to.protocol is Protocol.GRPC:
        raise BadInput("tensors over gRPC are always binary: leave --binary (or `binary`) out")
    timeout_us = None if wanted.slo_s is None or not wanted.tell_slo else round(wanted.slo_s * 1e6)
    inputs = metadata(to)
    rows = _rows(wanted, inputs, arrivals)
    requests = [_request(to, row, wanted.binary, timeout_us) for row in rows]
    if wanted.preflight:
        try_out(to, requests[0], timeout_s=30.0)
    return Job(wanted, to, requests, arrivals, _verifier(wanted, to, requests), lengths_of(inputs, rows))


def _rows(wanted: Wanted, inputs: Sequence[InputMeta], arrivals: tuple[Shape, Spacing] | Trace) -> list[Row]:
    if isinstance(arrivals, Trace) and arrivals.lengths is not None:
        if wanted.input is not None:
            raise BadInput("the trace has lengths, so its inputs are random: leave --input out, or the lengths")
        return random_rows(inputs, np.unique(arrivals.lengths).tolist(), wanted.rows, wanted.seed)
    fixed = all(size >= 0 for one in inputs for size in one.shape[1:])
    asked = Asked(wanted.input, wanted.n_inputs, wanted.rows, "fixed:1" if fixed else wanted.lengths, wanted.seed)
    return prepare(inputs, asked)


def _request(to: Target, row: Row, binary: bool, timeout_us: int | None) -> bytes:
    try:
        return to.protocol.infer_request(
            to.authority, to.model, row, binary=binary, version=to.version, timeout_us=timeout_us, key=to.key
        )
    except ValueError as error:
        raise BadInput(f"{error} (--binary)") from error


def _verifier(wanted: Wanted, to: Target, requests: Sequence[bytes]) -> Verifier | None:
    if wanted.verify is None:
        return None
    if wanted.verify == FIRST_PASS:
        return first_pass(to, requests, wanted.rtol, wanted.atol)
    return from_file(Path(wanted.verify), len(requests), wanted.rtol, wanted.atol, to.protocol)
