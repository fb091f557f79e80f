"""Asks a changed model the calibration requests, and says in three figures how far its answers are from the original's.

The figures are those of checks.agreement. This is agreement, not accuracy.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from optimizer.checks.agreement import Answered, closeness
from optimizer.errors import StageFailed
from optimizer.transforms.graph import open_session, to_bytes
from server.backends.base import Array, BatchError
from server.intake.checks import excess

if TYPE_CHECKING:
    from onnx import ModelProto

MOST_REQUESTS = 64
"""Of more, as many are asked, spread evenly over all."""

QUICK_REQUESTS = 12
"""For what is asked many times, to rank and not to decide."""

Thing = TypeVar("Thing")
Answers = Sequence[Array]


@dataclass(frozen=True, slots=True)
class Agreement:
    """`cosine`: between the answers, mean over the requests, of the output where it is least; `noise`: energy of the difference ÷ energy
    of the answer, likewise of the output where it is most. Both as checks.figures has them. `excess`: the largest difference in units
    of the parity gate's tolerance."""

    cosine: float
    noise: float
    excess: float


class Reference:
    """The original's answers to the calibration requests, each asked alone. Raises StageFailed when it fails on one."""

    def __init__(self, model: ModelProto, requests: Sequence[Mapping[str, Array]]) -> None:
        self.requests = spread(requests, MOST_REQUESTS)
        self._wanted = _ask(to_bytes(model), self.requests, "the model")

    def compare(self, model: ModelProto, n_most: int = MOST_REQUESTS) -> Agreement:
        """How `model` answers, over at most so many requests. Raises StageFailed when it does not load or fails on one."""
        picked = spread(range(len(self.requests)), n_most)
        found = _ask(to_bytes(model), [self.requests[n] for n in picked], "the changed model")
        return agreement([self._wanted[n] for n in picked], found)


def agreement(wanted: Sequence[Answers], found: Sequence[Answers]) -> Agreement:
    """Over pairs of answers: for each request the arrays of all outputs, in order."""
    pairs = [
        Answered("a calibration request", _by_place(one), _by_place(other)) for one, other in zip(wanted, found, strict=True)
    ]
    worst = max(excess(one.found[name], one.wanted[name]) for one in pairs for name in one.wanted)
    return Agreement(*closeness(pairs), worst)


def spread(things: Sequence[Thing], n_most: int) -> list[Thing]:
    """At most so many of them, evenly from the first to the last: samples are often sorted by length."""
    if len(things) <= n_most:
        return list(things)
    return [things[int(n)] for n in np.linspace(0, len(things) - 1, n_most).round()]


def decibel(noise: float) -> float:
    """Signal to noise, of a ratio noise ÷ signal; at most 200, so that a report can hold it."""
    return min(200.0, -10 * math.log10(noise)) if noise > 0 else 200.0


def _by_place(answers: Answers) -> dict[str, Array]:
    return {str(place): array for place, array in enumerate(answers)}


def _ask(data: bytes, requests: Sequence[Mapping[str, Array]], what: str) -> list[Answers]:
    with tempfile.TemporaryDirectory() as folder:
        session = open_session(data, Path(folder), what)
        try:
            return [list(session.run(request)) for request in requests]
        except BatchError as error:
            raise StageFailed(f"{what} fails on a calibration request: {error}") from None
        finally:
            session.close()
