"""When requests come, in the words of `ferry loadtest`: a shape says how the rate moves, a spacing how requests lie around it; a trace is both."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from server.simulation.errors import BadWorkload

_N_RAMP_STEPS = 4096


@dataclass(frozen=True, slots=True)
class Trace:
    """A recorded run: seconds from its start, ascending, and how long each input is, if that is known."""

    due_s: Sequence[float]
    lengths: Sequence[int] | None

    def times(self, factor: float, duration_s: float) -> Iterator[float]:
        """Played so many times faster."""
        return (at / factor for at in self.due_s if at / factor <= duration_s)

    @property
    def rate(self) -> float:
        """Its mean."""
        return len(self.due_s) / max(self.due_s[-1], 1e-9)


@dataclass(frozen=True, slots=True)
class Steady:
    """One rate all the time."""

    def steps(self, duration_s: float) -> Iterator[tuple[float, float]]:
        """Ends of the steps of the rate, and the rate within each as a multiple of the mean."""
        yield duration_s, 1.0


@dataclass(frozen=True, slots=True)
class Burst:
    """`factor` times the mean rate for the first `share` of every `period_s`; what is left in between keeps the mean."""

    factor: float
    share: float
    period_s: float

    def steps(self, duration_s: float) -> Iterator[tuple[float, float]]:
        rest = (1 - self.factor * self.share) / (1 - self.share)
        for n in range(math.ceil(duration_s / self.period_s)):
            yield min(duration_s, (n + self.share) * self.period_s), self.factor
            yield min(duration_s, (n + 1) * self.period_s), rest


@dataclass(frozen=True, slots=True)
class Ramp:
    """From `first` times the rate to `last` times the rate, in a straight line."""

    first: float
    last: float

    def steps(self, duration_s: float) -> Iterator[tuple[float, float]]:
        for n in range(_N_RAMP_STEPS):
            share = (n + 0.5) / _N_RAMP_STEPS
            yield duration_s * (n + 1) / _N_RAMP_STEPS, self.first + (self.last - self.first) * share


@dataclass(frozen=True, slots=True)
class Shaped:
    """Requests around a rate that moves: evenly, or as a Poisson process in the integral of the rate."""

    shape: Steady | Burst | Ramp
    is_even: bool = False

    def times(self, rate: float, duration_s: float, rnd: random.Random) -> Iterator[float]:
        """Ascending, within the duration."""
        at, passed, mark = 0.0, 0.0, self._gap(rnd)
        for end_at, factor in self.shape.steps(duration_s):
            per_s = rate * factor
            total = passed + per_s * (end_at - at)
            while mark < total:
                yield at + (mark - passed) / per_s
                mark += self._gap(rnd)
            at, passed = end_at, total

    def _gap(self, rnd: random.Random) -> float:
        return 1.0 if self.is_even else rnd.expovariate(1.0)


def parse_arrivals(text: str) -> Shaped:
    """poisson, constant, burst:FACTOR:SHARE:PERIOD_S or ramp:FIRST:LAST. Raises BadWorkload."""
    name, *rest = text.split(":")
    try:
        numbers = [float(one) for one in rest]
    except ValueError:
        numbers = [math.nan]
    match name, numbers:
        case "poisson", []:
            return Shaped(Steady())
        case "constant", []:
            return Shaped(Steady(), is_even=True)
        case "burst", [factor, share, period_s] if (
            factor >= 0 and 0 < share < 1 and 0 < period_s < math.inf and factor * share <= 1
        ):
            return Shaped(Burst(factor, share, period_s))
        case "ramp", [first, last] if first >= 0 and last >= 0 and 0 < first + last < math.inf:
            return Shaped(Ramp(first, last))
    raise BadWorkload(
        f"arrivals {text!r}: use poisson, constant, burst:FACTOR:SHARE:PERIOD_S with FACTOR x SHARE <= 1, "
        "ramp:FIRST:LAST (multiples of the rate) or trace:FILE"
    )


def parse_trace(lines: Sequence[str], where: str) -> Trace:
    """A line per request: its time in seconds and perhaps its length, by blanks or a comma; # begins a comment. Raises BadWorkload."""
    rows = [_row(f"{where} line {at}", line) for at, line in enumerate(lines, 1) if line.strip() and not line.startswith("#")]
    if not rows or len({len(row) for row in rows}) != 1:
        raise BadWorkload(f"the trace {where} holds no request, or lengths in some lines only")
    rows.sort()
    due_s = [row[0] - rows[0][0] for row in rows]
    return Trace(due_s, [int(row[1]) for row in rows] if len(rows[0]) == 2 else None)


def _row(where: str, line: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(word) for word in line.replace(",", " ").split())
    except ValueError:
        numbers = ()
    is_right = len(numbers) in (1, 2) and all(map(math.isfinite, numbers))
    if not is_right or (len(numbers) == 2 and (numbers[1] < 1 or numbers[1] != int(numbers[1]))):
        raise BadWorkload(f"{where}: {line[:60]!r} is not a finite time in seconds and perhaps a whole length")
    return numbers
