"""What happened to one request, found by replaying a recording up to its outcome: the scheduler knows again what it knew then."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from server.core.events import Answer, Cancel, Fail, InstanceLost, Refuse, Run, StepDone, StepFailed, Submit
from server.core.lane import Lane
from server.core.resident_lane import ResidentLane
from server.core.tenant import WhyNot
from server.core.types import Batch, GenerateRequest, InferRequest, ModelKey
from server.recording.file import Line, Recording
from server.recording.replay import Player, Step
from server.recording.state import restore, save
from server.recording.stay import Stay, newcomer, under_way


class End(Enum):
    """What became of a request."""

    ANSWERED = "answered"
    REFUSED = "refused"
    FAILED = "failed"
    CANCELLED = "cancelled"
    OPEN = "open"  # the recording ends before


@dataclass(frozen=True, slots=True)
class Admission:
    """What the scheduler reckoned with when a request came, after those that came with it; seconds, absolute for `_at`.

    Before it `n_waiting` requests of its model waited, `before_s` of work on all instances and neighbours; an instance was expected to be
    free at `free_at`, its own batch to take `own_s` and to end at `end_at`.
    """

    at: float
    n_waiting: int
    rows_waiting: int
    queue_rows: int
    free_at: float
    own_s: float
    alone_s: float
    end_at: float
    why_not: WhyNot | None

    @property
    def before_s(self) -> float:
        return self.end_at - self.own_s - self.free_at


@dataclass(slots=True)
class Ride:
    """A batch, how long it was expected to take when it was formed, and when it really began and ended (None: not in the recording).
    `is_ahead`: formed before an instance was free."""

    batch: Batch[None]
    expected_s: float
    is_ahead: bool
    n_left: int
    began_at: float | None = None
    ended_at: float | None = None
    problem: str | None = None

    @property
    def hand_over_s(self) -> float | None:
        """Until an instance took it up, when one was free."""
        return None if self.is_ahead or self.began_at is None else self.began_at - self.batch.formed_at

    @property
    def took_s(self) -> float | None:
        """As the scheduler measures it: from when it was formed, or, if no instance was free then, begun."""
        since = self.began_at if self.is_ahead else self.batch.formed_at
        return None if self.ended_at is None or since is None else self.ended_at - since


@dataclass(slots=True)
class Story:
    """`admission` is None when the request came before the recording begins; `before` are the batches on its device that ran
    between its arrival and its own first batch; `rides` its own, several when one failed. `why` is the metric label of its end.
    A request that stays for many steps has a `stay` instead of an admission and rides."""

    request: InferRequest[None]
    name: str | None
    admission: Admission | None = None
    before: list[Ride] = field(default_factory=list)
    rides: list[Ride] = field(default_factory=list)
    end: End = End.OPEN
    ended_at: float = 0.0
    why: str = ""
    detail: str = ""
    retry_after_s: float | None = None
    was_hopeless: bool = False
    stay: Stay | None = None


class NotThere(LookupError):
    """The recording has no such request; the message says what it has."""


def numbers_of(recording: Recording, asked: str) -> list[int]:
    """The numbers of the requests that their client calls so; else the number that was given. Raises NotThere."""
    named = [number for number, name in recording.names.items() if name == asked]
    if named:
        return sorted(named)
    digits = asked.removeprefix("#")
    if not digits.isdecimal():
        raise NotThere(
            f"no request in this recording has the id {asked!r}; it knows the ids of {len(recording.names)} requests"
        )
    return [int(digits)]


def tell(recording: Recording, number: int) -> Story:
    """Raises NotThere, or BadRecording."""
    place, lines = _where(recording, number)
    player = Player(recording.parts[place])
    witness = _Witness(player, number, recording.names.get(number))
    for line in lines:
        if witness.see(line):
            break
    if witness.story is None:
        raise NotThere(f"request {number} has its outcome already where the recording begins")
    return witness.story


def _where(recording: Recording, number: int) -> tuple[int, Iterator[Line]]:
    """The last part that begins before the request came, and the lines from there on."""
    least = most = None
    for place, part in enumerate(recording.parts):
        for line in part.lines:
            if line.event[0] != "submit":
                continue
            for facts in line.event[2]:
                least, most = min(least or facts[0], facts[0]), max(most or facts[0], facts[0])
                if facts[0] == number:
                    return place, _lines(recording, place)
    if any(facts[0] == number for _, facts in recording.parts[0].saved.requests):
        return 0, _lines(recording, 0)
    if number in recording.names:
        raise NotThere(
            f"request {number} ({recording.names[number]!r}) did not reach the scheduler in this recording: it was cancelled, refused "
            "or failed before, for instance while its text waited for tokens; its error says why"
        )
    raise NotThere(
        f"request {number} is not in this recording, which has requests {least} to {most}; those that were refused before the "
        "scheduler saw them have no number"
    )


def _lines(recording: Recording, place: int) -> Iterator[Line]:
    for part in recording.parts[place:]:
        yield from part.lines


class _Witness:
    """Follows one request through a replay."""

    def __init__(self, player: Player, number: int, name: str | None) -> None:
        self._player = player
        self._number = number
        self._name = name
        self._running: dict[int, Ride] = {}
        self.story: Story | None = None
        request = player.known.requests.get(number)
        if request is not None:
            self.story = Story(request, name)
            if isinstance(request, GenerateRequest):
                self.story.stay = under_way(self._resident_lane(request.model), request)
        for batch in list(player.known.batches.values()):
            self._note_run(batch)

    def see(self, line: Line) -> bool:
        """Whether this was the end of the story."""
        if line.event[0] == "submit":
            self._arrives(line)
        step = self._player.play(line)
        self._note_rides(step)
        return self.story is not None and self._ends(self.story, step)

    def _arrives(self, line: Line) -> None:
        event = self._player.event(line)
        if not isinstance(event, Submit):
            return
        for place, request in enumerate(event.requests):
            if request.id == self._number:
                self.story = self._newcomer(event, place, line.at)
                self.story.before = [ride for ride in self._running.values() if self._is_neighbour(ride.batch.model)]

    def _newcomer(self, event: Submit[None], place: int, now: float) -> Story:
        request = event.requests[place]
        if not isinstance(request, GenerateRequest):
            return Story(request, self._name, self._admission(event, place, now))
        return Story(request, self._name, stay=newcomer(self._resident_lane(event.model), place, now))

    def _admission(self, event: Submit[None], place: int, now: float) -> Admission | None:
        """On a copy of the scheduler, to which those that came with it are added first."""
        copy, _ = restore(save(self._player.scheduler))
        try:
            lane = copy.lane(event.model)
        except KeyError:
            return None
        for earlier in event.requests[:place]:
            if lane.why_not(earlier, now) is None:
                lane.waiting.add(earlier)
        request = event.requests[place]
        return Admission(
            now, len(lane.waiting), lane.waiting.rows, lane.limits.queue_rows, lane.free_at(now),
            lane.forecast.takes_s(request.rows, request.length), lane.forecast.at_best_s(request.rows, request.length),
            lane.predicted_end(request, now), lane.why_not(request, now),
        )  # fmt: skip

    def _is_neighbour(self, model: ModelKey) -> bool:
        assert self.story is not None, "asked for a story's request"
        lane = self._lane(self.story.request.model)
        return lane is not None and any(one.model == model for one in lane.device.lanes)

    def _lane(self, model: ModelKey) -> Lane[None] | None:
        try:
            return self._player.scheduler.lane(model)
        except KeyError:
            return None

    def _resident_lane(self, model: ModelKey) -> ResidentLane[None] | None:
        try:
            return self._player.scheduler.resident_lane(model)
        except KeyError:
            return None

    def _note_rides(self, step: Step) -> None:
        if isinstance(step.event, StepDone | StepFailed | InstanceLost) and step.event.batch is not None:
            ride = self._running.pop(step.event.batch.id, None)
            if ride is not None:
                ride.ended_at = step.at
                ride.began_at = step.event.began_at if isinstance(step.event, StepDone) else None
                ride.problem = None if isinstance(step.event, StepDone) else step.event.detail
        for action in step.actions:
            if isinstance(action, Run):
                self._note_run(action.batch)

    def _note_run(self, batch: Batch[None]) -> None:
        lane = self._player.scheduler.lane(batch.model)
        expected_s = lane.forecast.takes_s(batch.rows, batch.length)
        ride = self._running[batch.id] = Ride(batch, expected_s, lane.running[batch.id].is_ahead, len(lane.waiting))
        if self.story is None:
            return
        if any(request.id == self._number for request in batch.requests):
            self.story.rides.append(ride)
        elif not self.story.rides and self._is_neighbour(batch.model):
            self.story.before.append(ride)

    def _ends(self, story: Story, step: Step) -> bool:
        if isinstance(step.event, Cancel) and step.event.request.id == self._number:
            story.end, story.ended_at = End.CANCELLED, step.at
            return True
        if story.stay is not None and story.stay.note(self._number, step):
            story.end, story.ended_at = End.ANSWERED, step.at
            return True
        for action in step.actions:
            if isinstance(action, Answer) and any(request.id == self._number for request in action.requests):
                story.end = End.ANSWERED
            elif isinstance(action, Refuse) and action.request.id == self._number:
                story.end, story.why, story.retry_after_s = End.REFUSED, action.why.value, action.retry_after_s
                lane = self._lane(story.request.model)
                story.was_hopeless = lane is not None and lane.latest_start(story.request) <= step.at
            elif isinstance(action, Fail) and action.request.id == self._number:
                story.end, story.why, story.detail = End.FAILED, action.why.value, action.detail
            else:
                continue
            story.ended_at = step.at
            return True
        return False
