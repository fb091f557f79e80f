"""Feeds a recording's events into a scheduler of this very code, and tells where it decides otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import isclose
from typing import NamedTuple

from server.core.events import Action, Event
from server.core.scheduler import Scheduler
from server.recording.facts import Facts, action_facts
from server.recording.file import BadRecording, Line, Part, Recording
from server.recording.state import restore

_ROUNDING = 1e-9


class Step(NamedTuple):
    """One event, replayed."""

    at: float
    event: Event[None]
    actions: list[Action[None]]


@dataclass(frozen=True, slots=True)
class Difference:
    """The first event on which the scheduler decides otherwise than it did."""

    number: int
    line: Line
    decided: list[Facts]


class Player:
    """A scheduler that goes on from where a part of a recording begins."""

    def __init__(self, part: Part) -> None:
        """Raises BadRecording for a state that this ferry cannot go on from."""
        self.scheduler: Scheduler[None]
        try:
            self.scheduler, self.known = restore(part.saved)
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise BadRecording(
                f"a state of the recording is not one of this ferry's ({error}): use the ferry that wrote it"
            ) from None

    def event(self, line: Line) -> Event[None]:
        """What happened. Raises BadRecording."""
        try:
            return self.known.event(line.event)
        except (ValueError, TypeError, LookupError) as error:
            raise BadRecording(f"the event at {line.at} cannot be replayed: {error}") from None

    def play(self, line: Line) -> Step:
        """Let it happen again. Raises BadRecording."""
        event = self.event(line)
        try:
            actions = self.scheduler.handle(event, line.at)
        except (LookupError, AssertionError) as error:
            raise BadRecording(f"the event at {line.at} does not follow from those before it: {error!r}") from None
        self.known.note(event, actions)
        return Step(line.at, event, actions)


def lines(recording: Recording) -> Iterator[Line]:
    """All events in order."""
    for part in recording.parts:
        yield from part.lines


def first_difference(recording: Recording) -> Difference | None:
    """None when all decisions are equal. Raises BadRecording."""
    player = Player(recording.parts[0])
    for number, line in enumerate(lines(recording), 1):
        decided = [_as_read(action_facts(action)) for action in player.play(line).actions]
        if decided != line.actions and not _same(decided, line.actions):
            return Difference(number, line, decided)
    return None


def _same(one: object, other: object) -> bool:
    """Equal but for what another version of Python may round otherwise."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(_same(*pair) for pair in zip(one, other, strict=True))
    if isinstance(one, float) and isinstance(other, float):
        return isclose(one, other, rel_tol=_ROUNDING, abs_tol=_ROUNDING)
    return one == other


def _as_read(facts: Facts) -> Facts:
    """As they would come out of a file: JSON knows lists only."""
    return [list(one) if isinstance(one, tuple) else one for one in facts]
