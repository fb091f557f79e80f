"""Texts that wait for tokens, in the order in which they get them. No clock, no thread."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

LONGEST_WAITING_EVERY = 10
"""One text in so many is the one that has waited longest, whatever its priority: the floor of the lowest."""


class Text(Protocol):
    """What the order depends on. `id` grows with arrival."""

    @property
    def id(self) -> int: ...
    @property
    def priority(self) -> int: ...
    @property
    def cost_s(self) -> float: ...


T = TypeVar("T", bound=Text)


@dataclass(slots=True)
class _Rank(Generic[T]):
    """Those of one priority, in order of arrival, and the seconds of work in them."""

    texts: deque[T] = field(default_factory=deque)
    seconds: float = 0.0


class TextQueue(Generic[T]):
    """By priority, lower first, then by arrival."""

    def __init__(self) -> None:
        self._ranks: dict[int, _Rank[T]] = {}
        self._n_taken = 0

    def __len__(self) -> int:
        return sum([len(rank.texts) for rank in self._ranks.values()])

    def n_before(self, priority: int) -> int:
        """How many a newcomer of this priority would find before it, but for the floor's."""
        return sum([len(rank.texts) for other, rank in self._ranks.items() if other <= priority])

    @property
    def seconds(self) -> float:
        """The work in all of them, by their cost_s."""
        return sum([rank.seconds for rank in self._ranks.values()])

    def before_s(self, priority: int) -> float:
        """The work in those."""
        return sum([rank.seconds for other, rank in self._ranks.items() if other <= priority])

    def add(self, text: T) -> None:
        rank = self._ranks.setdefault(text.priority, _Rank())
        rank.texts.append(text)
        rank.seconds += text.cost_s

    @property
    def head(self) -> T:
        """The next one; there must be one."""
        if len(self._ranks) > 1 and self._n_taken % LONGEST_WAITING_EVERY == LONGEST_WAITING_EVERY - 1:
            return min((rank.texts[0] for rank in self._ranks.values()), key=_id)
        return self._ranks[min(self._ranks)].texts[0]

    def take(self) -> T:
        """Remove the head and return it."""
        text = self.head
        rank = self._ranks[text.priority]
        rank.texts.popleft()
        rank.seconds = max(0.0, rank.seconds - text.cost_s)
        if not rank.texts:
            del self._ranks[text.priority]  # with it goes what rounding left of its seconds
        self._n_taken += 1
        return text


def _id(text: Text) -> int:
    return text.id
