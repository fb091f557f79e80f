"""Which requests of a recording were late, refused or slow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum

from server.core.types import InferRequest
from server.recording.facts import Facts, read_model, read_request
from server.recording.file import BadRecording, Line, Recording
from server.recording.replay import Player


class Which(Enum):
    """What is asked for."""

    LATE = "late"
    REFUSED = "refused"
    SLOW = "slow"


@dataclass(frozen=True, slots=True)
class Ended:
    """A request and its end, if that is an answer or a refusal. `why`: that of a refusal."""

    request: InferRequest[None]
    at: float
    why: str | None

    @property
    def latency_s(self) -> float:
        return self.at - self.request.arrived_at

    @property
    def late_s(self) -> float:
        return self.at - self.request.deadline_at


def listed(recording: Recording, which: Which, most: int) -> tuple[list[Ended], int]:
    """Up to so many of them, and how many there are: the latest or slowest first, of the refused the last."""
    belongs, order = _ASKED[which]
    found = [one for one in ended(recording) if belongs(one)]
    found.sort(key=order, reverse=True)
    return found[:most], len(found)


def ended(recording: Recording) -> Iterator[Ended]:
    """Every request that was answered or refused, in that order. Decisions are taken as they were recorded. Raises BadRecording."""
    player = Player(recording.parts[0])
    requests = player.known.requests
    batches = {number: [one.id for one in batch.requests] for number, batch in player.known.batches.items()}
    for part in recording.parts:
        for line in part.lines:
            if line.event[0] == "submit":
                model = read_model(line.event[1])
                requests.update((facts[0], read_request(model, facts)) for facts in line.event[2])
            try:
                for facts in line.actions:
                    yield from _outcomes(facts, line, requests, batches)
            except LookupError as error:
                raise BadRecording(f"a decision at {line.at} speaks of a request or batch that is not known: {error}") from None


def _outcomes(
    facts: Facts, line: Line, requests: dict[int, InferRequest[None]], batches: dict[int, list[int]]
) -> Iterator[Ended]:
    if facts[0] == "run":
        batches[facts[1]] = facts[2]
    elif facts[0] == "answer":
        numbers = batches.pop(facts[1])
        for number in numbers if facts[2] is None else facts[2]:
            yield Ended(requests.pop(number), line.at, None)
    elif facts[0] == "refuse":
        yield Ended(requests.pop(facts[1]), line.at, facts[2])


def _latency(one: Ended) -> float:
    return one.latency_s


_ASKED: dict[Which, tuple[Callable[[Ended], bool], Callable[[Ended], float]]] = {
    Which.LATE: (lambda one: one.why is None and one.late_s > 0, lambda one: one.late_s),
    Which.REFUSED: (lambda one: one.why is not None, lambda one: one.at),
    Which.SLOW: (lambda one: one.why is None, _latency),
}
