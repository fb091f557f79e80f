"""When each request is due: seconds from the start of a run, all known before it starts. No clock here.

A shape says how the rate moves over the run, a spacing how requests lie around it; a recorded trace is both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import numpy as np
import numpy.typing as npt

from loadtests.errors import BadInput

Seconds = npt.NDArray[np.float64]
_N_RAMP_STEPS = 4096


class Spacing(Enum):
    """How requests lie around the rate."""

    POISSON = "poisson"
    CONSTANT = "constant"


@dataclass(frozen=True, slots=True)
class Steady:
    """One rate all the time."""

    def factors(self, duration_s: float) -> tuple[Seconds, Seconds]:
        return np.array([0.0, duration_s]), np.array([1.0])


@dataclass(frozen=True, slots=True)
class Burst:
    """`factor` times the mean rate for the first `share` of every `period_s`; what is left in between keeps the mean."""

    factor: float
    share: float
    period_s: float

    def factors(self, duration_s: float) -> tuple[Seconds, Seconds]:
        """Edges of the steps [n + 1] and the rate within each, as a multiple of the mean [n]."""
        starts = np.arange(0.0, duration_s, self.period_s)
        edges = np.stack([starts, starts + self.share * self.period_s], axis=1).ravel()
        low = (1 - self.factor * self.share) / (1 - self.share)
        edges = np.append(edges[edges < duration_s], duration_s)
        return edges, np.resize([self.factor, low], len(edges) - 1)


@dataclass(frozen=True, slots=True)
class Ramp:
    """From `first` times the rate to `last` times the rate, in a straight line."""

    first: float
    last: float

    def factors(self, duration_s: float) -> tuple[Seconds, Seconds]:
        edges = np.linspace(0.0, duration_s, _N_RAMP_STEPS + 1)
        middles = (np.arange(_N_RAMP_STEPS) + 0.5) / _N_RAMP_STEPS
        return edges, self.first + (self.last - self.first) * middles


Shape = Steady | Burst | Ramp


@dataclass(frozen=True, slots=True)
class Trace:
    """A recorded run: when each request is due and, if the file tells it, how long its input is."""

    due_s: Seconds
    lengths: npt.NDArray[np.int64] | None


def schedule(shape: Shape, spacing: Spacing, rate: float, duration_s: float, seed: int) -> Seconds:
    """Due times in 0…`duration_s`. Requests lie evenly or as a Poisson process in the integral of the rate."""
    if not (0 < rate < math.inf and 0 < duration_s < math.inf):
        raise BadInput(f"rate {rate:g}/s over {duration_s:g} s: both must be above zero and finite")
    edges, factors = shape.factors(duration_s)
    passed = np.concatenate([[0.0], np.cumsum(np.diff(edges) * factors * rate)])
    total = float(passed[-1])
    marks = np.arange(math.ceil(total)) if spacing is Spacing.CONSTANT else _poisson(total, seed)
    return np.interp(marks[marks < total], passed, edges)


def _poisson(total: float, seed: int) -> Seconds:
    rng = np.random.default_rng(seed)
    gaps = rng.exponential(size=int(total + 8 * math.sqrt(total) + 16))
    return np.cumsum(gaps)


def parse_shape(text: str) -> tuple[Shape, Spacing]:
    """`poisson`, `constant`, `burst:FACTOR:SHARE:PERIOD_S` or `ramp:FIRST:LAST`. Raises BadInput."""
    name, *rest = text.split(":")
    try:
        numbers = [float(one) for one in rest]
        match name, numbers:
            case (("poisson" | "constant"), []):
                return Steady(), Spacing(name)
            case "burst", [factor, share, period_s] if _is_burst(factor, share, period_s):
                return Burst(factor, share, period_s), Spacing.POISSON
            case "ramp", [first, last] if first >= 0 and last >= 0 and 0 < first + last < math.inf:
                return Ramp(first, last), Spacing.POISSON
    except ValueError:
        pass
    raise BadInput(
        f"arrivals {text!r}: use poisson, constant, burst:FACTOR:SHARE:PERIOD_S with FACTOR x SHARE <= 1, "
        "ramp:FIRST:LAST (multiples of the rate) or trace:FILE"
    )


def _is_burst(factor: float, share: float, period_s: float) -> bool:
    return factor >= 0 and 0 < share < 1 and 0 < period_s < math.inf and factor * share <= 1


def read_trace(file: Path) -> Trace:
    """A trace file: a line per request, its time in seconds and perhaps its length, by blanks or a comma.

    Times count from the first one; empty lines and lines that begin with # are skipped. Raises BadInput with the line.
    """
    try:
        lines = file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"cannot read the trace {file}: {error}") from error
    rows = [_row(file, at, line) for at, line in enumerate(lines, 1) if line.strip() and not line.startswith("#")]
    if not rows:
        raise BadInput(f"the trace {file} holds no request")
    if len({len(row) for row in rows}) != 1:
        raise BadInput(f"the trace {file} has lengths in some lines only")
    columns = np.array(sorted(rows))
    due_s = columns[:, 0] - columns[0, 0]
    return Trace(due_s, columns[:, 1].astype(np.int64) if columns.shape[1] == 2 else None)


def _row(file: Path, at: int, line: str) -> tuple[float, ...]:
    words = line.replace(",", " ").split()
    try:
        numbers = tuple(float(word) for word in words)
    except ValueError:
        numbers = ()
    right = len(numbers) in (1, 2) and all(map(math.isfinite, numbers))
    if not right or (len(numbers) == 2 and not (numbers[1] >= 1 and numbers[1] == int(numbers[1]))):
        raise BadInput(f"{file} line {at}: {line[:60]!r} is not a finite time in seconds and perhaps a whole length")
    return numbers
