"""The laws for requests that stay resident, checked against every event and action by the Onlooker of core/invariants.py."""

from __future__ import annotations

from typing import Generic

from server.core.device import FLOOR
from server.core.events import Action, Emit, IterationDone, IterationFailed, OpenResident, Release
from server.core.resident_lane import ResidentLane, claim
from server.core.types import Chunk, GenerateRequest, InferRequest, Iteration, P

_ROUNDING_S = 1e-9


class BrokenLaw(AssertionError):
    """The scheduler did what it must never do; the message names the law."""


class _Place(Generic[P]):
    """What an onlooker knows of one instance: its residents by id, and how many tokens of their prompt and of their answer they have."""

    def __init__(self) -> None:
        self.residents: dict[int, GenerateRequest[P]] = {}
        self.n_prefilled: dict[int, int] = {}
        self.n_new: dict[int, int] = {}
        self.suspects: set[int] = set()
        self.cancelled: set[int] = set()
        self.running: Iteration[P] | None = None

    def forget(self, number: int) -> None:
        del self.residents[number], self.n_prefilled[number], self.n_new[number]
        self.suspects.discard(number)
        self.cancelled.discard(number)


class ResidentBooks(Generic[P]):
    """One generating model.

    Law 5: in each step of an instance all its residents who have a token get the next one, unless a step of theirs has failed, after
    which each of them runs once alone. Prompts go on where they stopped, cut at multiples of the chunk size. An instance goes on by itself
    only where no step has failed and no other model of its device has requests that wait.
    Law 6: slots, room and step tokens are never exceeded; who leaves is released at once and never seen again.
    Law 7: prompts are taken up in the order of urgency within a priority, and a lower priority goes first only within its floor.
    Law 8: no prompt is added to a step that is then predicted to break the inter-token SLO even at best.
    """

    def __init__(self, opened: OpenResident) -> None:
        self.limits = opened.limits
        self.device = opened.device or opened.model
        self.waiting: dict[int, GenerateRequest[P]] = {}
        self.places: dict[int, _Place[P]] = {}
        self.passed: dict[int, int] = {}  # by priority: tokens set out while it waited
        self.floor: dict[int, int] = {}  # tokens it got before something more urgent

    @property
    def share(self) -> float:
        """Of its device, now."""
        return sum(place.running is not None for place in self.places.values()) / max(1, len(self.places))

    @property
    def has_idle_work(self) -> bool:
        """Whether an instance does nothing though somebody waits for one, or is resident there."""
        return any(not place.running and (self.waiting or place.residents) for place in self.places.values())

    @property
    def is_empty(self) -> bool:
        return not self.waiting and not any(place.residents for place in self.places.values())

    def note_up(self, number: int) -> None:
        self.places[number] = _Place()

    def note_cancel(self, request: InferRequest[P]) -> None:
        self.waiting.pop(request.id, None)
        for place in self.places.values():
            if request.id in place.residents:
                place.cancelled.add(request.id)

    def note_end(self, event: IterationDone[P] | IterationFailed[P]) -> None:
        """A step has ended; who ended with it is released in the same breath."""
        place = self.places[event.iteration.instance]
        place.running = None
        if isinstance(event, IterationFailed):
            if event.iteration.n_requests > 1:
                place.suspects |= _members(event.iteration) - place.cancelled
            return
        for number in _members(event.iteration):
            place.suspects.discard(number)
        for chunk in event.ran.chunks:
            place.n_prefilled[chunk.request.id] = chunk.stop
        for request in _got_tokens(event.ran):
            place.n_new[request.id] += 1
            if place.n_new[request.id] > request.new_tokens:
                raise BrokenLaw(f"law 6: {request!r} has {place.n_new[request.id]} tokens")

    def check_emitted(self, event: IterationDone[P] | IterationFailed[P], actions: list[Action[P]]) -> None:
        """Who ended, failed or was cancelled is released before the next step; only who still wants it gets a token, and all of them."""
        iteration = event.ran if isinstance(event, IterationDone) else event.iteration
        wanted = {request.id for request in _got_tokens(iteration)} - self.places[iteration.instance].cancelled
        ended = {request.id for request in event.ended} & wanted if isinstance(event, IterationDone) else set()
        if isinstance(event, IterationFailed):
            wanted = set()
        emits = [action for action in actions if isinstance(action, Emit)]
        told = {request.id for emit in emits for request in emit.requests}
        if len(emits) > 1 or told != wanted or {request.id for emit in emits for request in emit.ended} != ended:
            raise BrokenLaw(f"law 1: the tokens of {iteration!r} go to {sorted(told)}, not to {sorted(wanted)}")

    def note_release(self, action: Release[P]) -> None:
        place = self.places[action.instance]
        for request in action.requests:
            if request.id not in place.residents:
                raise BrokenLaw(f"law 6: {request!r} is released but is not resident")
            if place.running is not None and request.id in _members(place.running):
                raise BrokenLaw(f"law 6: {request!r} is released while its step runs")
            place.forget(request.id)

    def check_iteration(self, iteration: Iteration[P], lane: ResidentLane[P]) -> None:
        place = self.places[iteration.instance]
        if place.running is not None:
            raise BrokenLaw(f"law 6: {iteration!r} is one too many for its instance")
        if place.cancelled:
            raise BrokenLaw(f"law 6: {sorted(place.cancelled)} were cancelled but did not leave before {iteration!r}")
        if not iteration.n_requests:
            raise BrokenLaw(f"law 5: {iteration!r} does nothing")
        self._check_members(iteration, place)
        if not place.suspects:
            self._check_newcomers(iteration, place)
        for chunk in iteration.chunks:
            self._note_chunk(chunk, place)
        self._check_budgets(iteration, place)
        if iteration.decode and iteration.chunks:
            self._check_gap(iteration, lane)
        place.running = iteration

    def _check_members(self, iteration: Iteration[P], place: _Place[P]) -> None:
        decoding = {number for number, n_new in place.n_new.items() if n_new}
        if place.suspects:
            if iteration.n_requests != 1 or not _members(iteration) <= place.suspects:
                raise BrokenLaw(f"law 1: {iteration!r} is not one of those in a failed step, alone")
        elif {request.id for request in iteration.decode} != decoding:
            raise BrokenLaw(f"law 5: {iteration!r} does not decode all of {sorted(decoding)}")
        context = sum(place.n_prefilled[one.id] + place.n_new[one.id] for one in iteration.decode)
        if context != iteration.context:
            raise BrokenLaw(f"law 6: {iteration!r} has {context} tokens kept, not {iteration.context}")

    def _check_newcomers(self, iteration: Iteration[P], place: _Place[P]) -> None:
        """Who has a chunk is more urgent than each of its priority who has none and might have had one. Unfinished prompts may go on while
        a newcomer waits for a slot or for room."""
        could = {request.id: request for request in self.waiting.values()}
        could |= {number: place.residents[number] for number, n_new in place.n_new.items() if not n_new}
        chosen = [chunk.request for chunk in iteration.chunks]
        left = [request for request in could.values() if request not in chosen]
        claims = sum(claim(chunk) for chunk in iteration.chunks)
        for chunk in iteration.chunks:
            request = chunk.request
            if request.id not in could:
                raise BrokenLaw(f"law 1: {request!r} has a chunk in {iteration!r} but neither waits nor is resident there")
            is_new = request.id in self.waiting
            passed = [one for one in left if _urgency(one) < _urgency(request) and (is_new or one.id in place.residents)]
            if any(other.priority == request.priority for other in passed):
                raise BrokenLaw(f"law 7: {iteration!r} passes over {passed[0]!r}")
            if passed:
                self._check_floor(chunk, passed[0])
        for priority in {request.priority for request in could.values()}:
            self.passed[priority] = self.passed.get(priority, 0) + claims

    def _check_floor(self, chunk: Chunk[P], passed: GenerateRequest[P]) -> None:
        priority = chunk.request.priority
        got = self.floor[priority] = self.floor.get(priority, 0) + claim(chunk)
        if got > FLOOR * self.passed.get(priority, 0) + self.limits.longest:
            raise BrokenLaw(f"law 7: {chunk!r} passes over the more urgent {passed!r}, beyond its floor")

    def _note_chunk(self, chunk: Chunk[P], place: _Place[P]) -> None:
        request = chunk.request
        if self.waiting.pop(request.id, None) is not None:
            place.residents[request.id] = request
            place.n_prefilled[request.id] = place.n_new[request.id] = 0
        if chunk.start != place.n_prefilled[request.id] or chunk.stop <= chunk.start or chunk.stop > request.length:
            raise BrokenLaw(f"law 5: {chunk!r} does not go on where {place.n_prefilled[request.id]} tokens are done")
        if chunk.stop % self.limits.chunk and not chunk.is_last:
            raise BrokenLaw(f"law 5: {chunk!r} is not cut at a multiple of {self.limits.chunk}")

    def _check_budgets(self, iteration: Iteration[P], place: _Place[P]) -> None:
        room = sum(request.room for request in place.residents.values())
        if len(place.residents) > self.limits.slots or room > self.limits.room:
            raise BrokenLaw(f"law 6: {len(place.residents)} residents with {room} tokens exceed {self.limits!r}")
        if sum(chunk.stop - chunk.start for chunk in iteration.chunks) > self.limits.step_tokens:
            raise BrokenLaw(f"law 6: {iteration!r} exceeds {self.limits.step_tokens} tokens of prompts")

    def _check_gap(self, iteration: Iteration[P], lane: ResidentLane[P]) -> None:
        forecast = lane.forecast
        best_s = forecast.decode_at_best_s(len(iteration.decode), iteration.context)
        best_s += sum(forecast.prefill_at_best_s(chunk.stop - chunk.start) for chunk in iteration.chunks)
        if best_s > self.limits.gap_s + _ROUNDING_S:
            raise BrokenLaw(
                f"law 8: {iteration!r} takes {best_s} s at best, more than the {self.limits.gap_s} s between tokens"
            )


def _members(iteration: Iteration[P]) -> set[int]:
    return {request.id for request in iteration.decode} | {chunk.request.id for chunk in iteration.chunks}


def _got_tokens(iteration: Iteration[P]) -> list[GenerateRequest[P]]:
    return [*iteration.decode, *[chunk.request for chunk in iteration.chunks if chunk.is_last]]


def _urgency(request: InferRequest[P]) -> tuple[int, float, int]:
    return request.priority, request.deadline_at, request.id
