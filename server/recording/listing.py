"""Which requests of a recording were late, refused or slow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum

from server.core.types import GenerateRequest, InferRequest
from server.recording.facts import Facts
from server.recording.file import BadRecording, Header, Recording
from server.recording.known import read_model, read_request
from server.recording.replay import Player


class Which(Enum):
    """What is asked for."""

    LATE = "late"
    REFUSED = "refused"
    SLOW = "slow"


@dataclass(frozen=True, slots=True)
class Ended:
    """A request and its end, if that is an answer or a refusal. `why`: that of a refusal. `late_s`: by how much it had late, negative if
    early, what its deadline is for, the answer or, where tokens come one by one, the first of them; None: it had it before the recording."""

    request: InferRequest[None]
    at: float
    why: str | None
    late_s: float | None

    @property
    def latency_s(self) -> float:
        return self.at - self.request.arrived_at


def listed(recording: Recording, which: Which, most: int) -> tuple[list[Ended], int]:
    """Up to so many of them, and how many there are: the latest or slowest first, of the refused the last."""
    belongs, order = _ASKED[which]
    found = [one for one in ended(recording) if belongs(one)]
    found.sort(key=order, reverse=True)
    return found[:most], len(found)


def ended(recording: Recording) -> Iterator[Ended]:
    """Every request that was answered or refused, in that order. Decisions are taken as they were recorded. Raises BadRecording."""
    player = Player(recording.parts[0])
    books = _Books(player, recording.header)
    for part in recording.parts:
        for line in part.lines:
            if line.event[0] == "submit":
                model = read_model(line.event[1])
                books.requests.update((facts[0], read_request(model, facts)) for facts in line.event[2])
            try:
                for facts in line.actions:
                    yield from books.outcomes(facts, line.at)
            except LookupError as error:
                raise BadRecording(f"a decision at {line.at} speaks of a request or batch that is not known: {error}") from None


class _Books:
    """Who has no outcome yet, in which batch, and since when with a token."""

    def __init__(self, player: Player, header: Header) -> None:
        self._header = header
        self.requests = player.known.requests
        self._batches = {number: [one.id for one in batch.requests] for number, batch in player.known.batches.items()}
        self._first_at: dict[int, float | None] = dict.fromkeys(_with_tokens(player))

    def outcomes(self, facts: Facts, at: float) -> Iterator[Ended]:
        if facts[0] == "run":
            self._batches[facts[1]] = facts[2]
        elif facts[0] == "answer":
            numbers = self._batches.pop(facts[1])
            for number in numbers if facts[2] is None else facts[2]:
                yield self._ended(number, at, None, at)
        elif facts[0] == "emit":
            for number in facts[2]:
                self._first_at.setdefault(number, at)
            for number in facts[3]:
                yield self._ended(number, at, None, self._first_at.pop(number))
        elif facts[0] == "refuse":
            yield self._ended(facts[1], at, facts[2], at)

    def _ended(self, number: int, at: float, why: str | None, first_at: float | None) -> Ended:
        request = self.requests.pop(number)
        return Ended(request, at, why, None if first_at is None else -self._header.left_s(request, first_at))


def _with_tokens(player: Player) -> Iterator[int]:
    """Those that had a token when the recording begins."""
    models = {request.model for request in player.known.requests.values() if isinstance(request, GenerateRequest)}
    for model in models:
        for place in player.scheduler.resident_lane(model).places.values():
            yield from place.decoding


def _latency(one: Ended) -> float:
    return one.latency_s


def _lateness(one: Ended) -> float:
    return float("-inf") if one.late_s is None else one.late_s


_ASKED: dict[Which, tuple[Callable[[Ended], bool], Callable[[Ended], float]]] = {
    Which.LATE: (lambda one: one.why is None and _lateness(one) > 0, _lateness),
    Which.REFUSED: (lambda one: one.why is not None, lambda one: one.at),
    Which.SLOW: (lambda one: one.why is None, _latency),
}
