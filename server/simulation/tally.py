"""What came of simulated requests, and the figures drawn from it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from server.core.types import Batch, ModelKey
from server.simulation.clients import Request
from server.simulation.streams import Streams

_ROUNDING_S = 1e-9

Which = Callable[[Request], bool]


def everyone(_: Request) -> bool:
    return True


@dataclass
class Tally:
    """Requests with the time of their answer, those refused, and the batches, in order. `ran`: how many batches of a model and
    of so many rows there were, and how long they took in all; `loop_s`: how long the event loop was busy.
    Who gets many tokens is in `streams`."""

    answered: list[tuple[Request, float]] = field(default_factory=list)
    refused: list[Request] = field(default_factory=list)
    batches: list[Batch[int]] = field(default_factory=list)
    ran: dict[tuple[ModelKey, int], tuple[int, float]] = field(default_factory=dict)
    loop_s: float = 0.0
    now: float = 0.0
    streams: Streams = field(default_factory=Streams)

    def worked(self, batch: Batch[int], takes_s: float) -> None:
        """An instance has begun a batch, or the event loop has."""
        n, seconds = self.ran.get((batch.model, batch.rows), (0, 0.0))
        self.ran[batch.model, batch.rows] = n + 1, seconds + takes_s

    def answer(self, requests: Sequence[Request], now: float) -> None:
        self.answered += [(request, now) for request in requests]
        self.now = max(self.now, now)

    def n_in_time(self, which: Which = everyone) -> int:
        return sum(at <= r.deadline_at + _ROUNDING_S for r, at in self.answered if which(r))

    def n_late(self, which: Which = everyone) -> int:
        return sum(at > r.deadline_at + _ROUNDING_S for r, at in self.answered if which(r))

    def in_time_share(self, which: Which = everyone) -> float:
        """Of all requests, drops are misses."""
        n_all = sum(which(r) for r, _ in self.answered) + sum(map(which, self.refused))
        return self.n_in_time(which) / n_all

    def rate(self) -> float:
        """Answers per second, up to the last one."""
        return len(self.answered) / self.now

    def goodput(self, since: float = 0.0, which: Which = everyone) -> float:
        """Answers in time per second, between then and the last one."""
        n_good = sum(at > since and at <= r.deadline_at + _ROUNDING_S for r, at in self.answered if which(r))
        return n_good / (self.now - since)

    def latency(self, share: float, which: Which = everyone) -> float:
        """The latency that this share of the answers keeps (nearest rank), in seconds."""
        ordered = sorted(at - r.arrived_at for r, at in self.answered if which(r))
        return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
