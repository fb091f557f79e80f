"""What came of simulated requests that get many tokens: when each of them came, and the figures drawn from that."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from server.core.types import GenerateRequest, InferRequest, Iteration

_ROUNDING_S = 1e-9


@dataclass
class Stream:
    """One request that got tokens, and when. Its payload says how many it takes if nobody cancels it."""

    request: GenerateRequest[int]
    token_at: list[float] = field(default_factory=list)
    has_ended: bool = False

    @property
    def first_s(self) -> float:
        """Time to first token."""
        return self.token_at[0] - self.request.arrived_at

    @property
    def worst_gap_s(self) -> float:
        """The longest time between two tokens; 0 for one token."""
        return max([later - earlier for earlier, later in pairwise(self.token_at)], default=0.0)

    def keeps(self, gap_s: float) -> bool:
        """Both objectives: first token by the deadline, and no gap longer than this."""
        in_time = self.token_at[0] <= self.request.deadline_at + _ROUNDING_S
        return in_time and self.has_ended and self.worst_gap_s <= gap_s + _ROUNDING_S


Which = Callable[[Stream], bool]


def every(_: Stream) -> bool:
    return True


@dataclass
class Streams:
    """All streams by request id, in order of their first token, and the steps that made them."""

    of: dict[int, Stream] = field(default_factory=dict)
    steps: list[Iteration[int]] = field(default_factory=list)
    now: float = 0.0

    def emit(self, requests: Iterable[GenerateRequest[int]], ended: Iterable[InferRequest[int]], now: float) -> None:
        for request in requests:
            self.of.setdefault(request.id, Stream(request)).token_at.append(now)
        for one in ended:
            self.of[one.id].has_ended = True
        self.now = max(self.now, now)

    def n_tokens(self) -> int:
        return sum(len(stream.token_at) for stream in self.of.values())

    def rate(self) -> float:
        """Tokens per second, up to the last one."""
        return self.n_tokens() / self.now

    def goodput(self, gap_s: float, since: float = 0.0, until: float = math.inf, which: Which = every) -> float:
        """Requests per second that kept both objectives, of those that ended in this time."""
        ended = [one for one in self.of.values() if which(one) and since < one.token_at[-1] <= until]
        return sum(one.keeps(gap_s) for one in ended) / (min(until, self.now) - since)

    def kept_share(self, gap_s: float, which: Which = every) -> float:
        """Of those that got tokens."""
        chosen = [one for one in self.of.values() if which(one)]
        return sum(one.keeps(gap_s) for one in chosen) / len(chosen)

    def first_token(self, share: float, which: Which = every) -> float:
        """The time to first token that this share keeps (nearest rank), in seconds."""
        return _quantile([one.first_s for one in self.of.values() if which(one)], share)

    def worst_gap(self, share: float, which: Which = every) -> float:
        """The worst gap between tokens that this share of the requests keeps, in seconds."""
        return _quantile([one.worst_gap_s for one in self.of.values() if which(one)], share)


def _quantile(values: Sequence[float], share: float) -> float:
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
