"""What a request met that stays for many steps: its slot, the chunks of its prompt, its tokens."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

from server.core.events import Emit, Iterate, IterationDone, IterationFailed
from server.core.resident_lane import ResidentLane
from server.core.types import Chunk, GenerateRequest, Iteration
from server.recording.replay import Step


@dataclass(frozen=True, slots=True)
class Prompted:
    """A part of the prompt, and the step that it was in."""

    step: Iteration[None]
    chunk: Chunk[None]


@dataclass(slots=True)
class Stay:
    """Times are absolute seconds. When it reached the scheduler, at `came_at`, so many others waited and were resident; None: that is not
    in the recording, or its model was not open.
    `n_before`: tokens that it had when the recording begins. `n_known`: of its prompt, that its slot had when it began. `problems`: of its steps that failed, with their numbers."""

    came_at: float | None = None
    n_waiting: int = 0
    n_resident: int = 0
    instance: int | None = None
    n_before: int = 0
    n_known: int = 0
    prompted: list[Prompted] = field(default_factory=list)
    token_at: list[float] = field(default_factory=list)
    problems: list[tuple[Iteration[None], str, float]] = field(default_factory=list)

    @property
    def first_at(self) -> float | None:
        """When its first token was there; None: it has none, or that was before the recording."""
        return self.token_at[0] if self.token_at and not self.n_before else None

    @property
    def n_tokens(self) -> int:
        return self.n_before + len(self.token_at)

    @property
    def worst_gap_s(self) -> float | None:
        """The longest time between two tokens; None where fewer are known."""
        return max([later - earlier for earlier, later in pairwise(self.token_at)], default=None)

    @property
    def slot_at(self) -> float | None:
        """When it got its slot; None: it has none, or that was before the recording."""
        first = self.prompted[0] if self.prompted else None
        return first.step.formed_at if first and first.chunk.start == self.n_known else None

    def note(self, number: int, step: Step) -> bool:
        """What one event meant for the request of this number. Whether that was its last token."""
        if isinstance(step.event, IterationFailed) and number in _members(step.event.iteration):
            self.problems.append((step.event.iteration, step.event.detail, step.at))
        if isinstance(step.event, IterationDone) and number in step.event.known:
            self.n_known = step.event.known[number]
            # Of which there is one at most; none if that was before the recording.
            self.prompted = [Prompted(one.step, one.chunk.moved(self.n_known)) for one in self.prompted]
        has_ended = False
        for action in step.actions:
            if isinstance(action, Iterate):
                self._prompted(number, action.iteration)
            elif isinstance(action, Emit) and number in [request.id for request in action.requests]:
                self.token_at.append(step.at)
                has_ended = number in [request.id for request in action.ended]
        return has_ended

    def _prompted(self, number: int, iteration: Iteration[None]) -> None:
        for chunk in iteration.chunks:
            if chunk.request.id == number:
                self.instance = iteration.instance
                self.prompted.append(Prompted(iteration, chunk))


def newcomer(lane: ResidentLane[None] | None, n_earlier: int, now: float) -> Stay:
    """That of a request that comes now, behind so many that came with it; None: its model is not open."""
    if lane is None:
        return Stay()
    return Stay(now, len(lane.waiting) + n_earlier, sum(len(place) for place in lane.places.values()))


def under_way(lane: ResidentLane[None] | None, request: GenerateRequest[None]) -> Stay:
    """That of a request that was there when the recording begins."""
    for place in lane.places.values() if lane else ():
        resident = place.of(request)
        if resident is not None:
            return Stay(instance=place.instance, n_before=resident.n_new)
    return Stay()


def _members(iteration: Iteration[None]) -> list[int]:
    return [request.id for request in iteration.decode] + [chunk.request.id for chunk in iteration.chunks]
