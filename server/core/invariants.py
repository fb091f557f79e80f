"""The laws of the scheduler, checked against every event and action. Used by the simulated worlds in tests/sim."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Generic

from server.core.device import FLOOR
from server.core.events import (
    Action,
    Answer,
    Cancel,
    Closed,
    Drain,
    Emit,
    Event,
    Fail,
    InstanceLost,
    InstanceUp,
    Iterate,
    IterationDone,
    IterationFailed,
    Open,
    OpenResident,
    Recost,
    Refuse,
    Release,
    Run,
    StepDone,
    StepFailed,
    Submit,
    Wake,
)  # fmt: skip
from server.core.policy import is_complete
from server.core.resident_laws import BrokenLaw as BrokenLaw  # of both kinds of models
from server.core.resident_laws import ResidentBooks
from server.core.scheduler import Scheduler
from server.core.types import Batch, Close, GenerateRequest, InferRequest, Iteration, Limits, Mixing, ModelKey, P

_ROUNDING_S = 1e-9


class Outcome(Enum):
    """How a request ended."""

    ANSWERED = "answered"
    REFUSED = "refused"
    FAILED = "failed"
    CANCELLED = "cancelled"


class _Model(Generic[P]):
    """What an onlooker knows of one model."""

    def __init__(self, opened: Open) -> None:
        self.limits: Limits = opened.limits
        self.mixing: Mixing = opened.mixing
        self.waiting: dict[int, InferRequest[P]] = {}
        self.running: dict[int, Batch[P]] = {}
        self.device = opened.device or opened.model
        self.instances = 0
        self.passed_rows: dict[int, int] = {}  # by priority: rows that ran while it waited
        self.floor_rows: dict[int, int] = {}  # rows it got before something more urgent

    @property
    def is_empty(self) -> bool:
        return not self.waiting and not self.running

    @property
    def share(self) -> float:
        """Of its device, now."""
        return min(1.0, len(self.running) / max(1, self.instances))


class Onlooker(Generic[P]):
    """Sees every event and its actions, keeps its own books, and raises BrokenLaw on the first contradiction.

    Law 1: each submitted request ends in exactly one outcome, and no batch-mate suffers for another.
    Law 2: after Wake at t, next_wakeup() > t.
    Law 3: a batch holds the most urgent request that waits, and without lengths exactly the most urgent of each priority. A lower
    priority goes first only within its floor.
    Law 4: no batch exceeds its limits or its device, and none starts that the profile predicts late for one of its requests.
    Laws 5 to 8, of those who stay: see ResidentBooks.
    """

    def __init__(self, scheduler: Scheduler[P]) -> None:
        self._scheduler = scheduler
        self.outcomes: dict[int, Outcome] = {}
        self.submitted: dict[int, InferRequest[P]] = {}
        self.batches: list[Batch[P]] = []
        self.iterations: list[Iteration[P]] = []
        self._models: dict[ModelKey, _Model[P]] = {}
        self._residents: dict[ModelKey, ResidentBooks[P]] = {}
        self._suspects: set[int] = set()
        self._draining: set[ModelKey] = set()

    def see(self, event: Event[P], actions: list[Action[P]], now: float) -> None:
        """Check one call of handle(), after it. Raises BrokenLaw."""
        next_wakeup = self._scheduler.next_wakeup()
        self._note_event(event)
        self._check_releases(actions)
        if isinstance(event, IterationDone | IterationFailed):
            self._residents[event.iteration.model].check_emitted(event, actions)
        for action in sorted(actions, key=lambda action: isinstance(action, Run | Iterate)):
            self._note_action(action, now)  # batches and steps last: who was refused in the same call could not be in them
        self._check_idle()
        if isinstance(event, Wake) and next_wakeup is not None and next_wakeup <= now:
            raise BrokenLaw(f"law 2: woken at {now}, wants to be woken at {next_wakeup} again")

    def end(self) -> None:
        """Call when the world has come to rest. Raises BrokenLaw when a request never got its outcome, or a drain no end."""
        lost = sorted(self.submitted.keys() - self.outcomes.keys())
        if lost:
            raise BrokenLaw(f"law 1: {len(lost)} requests have no outcome, the first is {self.submitted[lost[0]]!r}")
        if self._draining:
            raise BrokenLaw(f"law 1: {min(self._draining)} drains for ever: nothing is left of it, but it did not close")

    def _note_event(self, event: Event[P]) -> None:
        match event:
            case Submit(model, requests):
                self._note_submitted(model, requests)
            case Cancel(request):
                self._note_cancel(request)
            case StepFailed(batch, _):
                self._note_failed(batch)
            case StepDone(batch, _):
                del self._models[batch.model].running[batch.id]
            case IterationDone() | IterationFailed():
                self._residents[event.iteration.model].note_end(event)
            case Open() | OpenResident() | Recost() | InstanceUp() | InstanceLost() | Drain():
                self._note_change(event)
            case Wake():  # pragma: no branch  # the last kind of event
                pass

    def _note_change(self, event: Open | OpenResident | Recost | InstanceUp | InstanceLost[P] | Drain) -> None:
        match event:
            case Open(model):
                self._models[model] = _Model(event)
            case OpenResident(model):
                self._residents[model] = ResidentBooks(event)
            case Recost(model, limits):
                self._models[model].limits = limits
            case InstanceUp(model, number):
                self._note_up(model, number)
            case InstanceLost(model, batch, _, number):
                self._note_lost(model, batch, number)
            case Drain(model):  # pragma: no branch  # the last kind of change
                self._draining.add(model)

    def _note_up(self, model: ModelKey, number: int) -> None:
        if model in self._models:
            self._models[model].instances += 1
        else:
            self._residents[model].note_up(number)

    def _note_submitted(self, model: ModelKey, requests: Iterable[InferRequest[P]]) -> None:
        for request in requests:
            self.submitted[request.id] = request
            if model in self._models:
                self._models[model].waiting[request.id] = request
            elif model in self._residents:
                assert isinstance(request, GenerateRequest)
                self._residents[model].waiting[request.id] = request

    def _note_cancel(self, request: InferRequest[P]) -> None:
        if request.id not in self.outcomes:
            self.outcomes[request.id] = Outcome.CANCELLED
            if request.model in self._models:
                self._models[request.model].waiting.pop(request.id, None)
            else:
                self._residents[request.model].note_cancel(request)

    def _note_lost(self, model: ModelKey, batch: Batch[P] | None, number: int) -> None:
        if model in self._residents:
            del self._residents[model].places[number]
            return
        self._models[model].instances -= 1
        if batch is not None:
            del self._models[model].running[batch.id]

    def _note_failed(self, batch: Batch[P]) -> None:
        model = self._models[batch.model]
        del model.running[batch.id]
        if len(batch.requests) > 1:
            live = [request for request in batch.requests if request.id not in self.outcomes]
            self._suspects.update(request.id for request in live)
            model.waiting.update((request.id, request) for request in live)

    def _note_action(self, action: Action[P], now: float) -> None:
        match action:
            case Run(batch):
                self._check_batch(batch, now)
            case Answer(batch, requests):
                for request in requests:
                    if request not in batch.requests:
                        raise BrokenLaw(f"law 1: {request!r} is answered with the results of {batch!r}")
                    self._end_request(request, Outcome.ANSWERED)
            case Iterate() | Emit() | Release():
                self._note_resident_action(action)
            case Refuse(request, _, _):
                self._end_request(request, Outcome.REFUSED)
            case Fail(request, _, _):
                self._end_request(request, Outcome.FAILED)
            case Closed(model):  # pragma: no branch  # the last kind of action
                self._note_closed(model)

    def _note_resident_action(self, action: Iterate[P] | Emit[P] | Release[P]) -> None:
        match action:
            case Iterate():
                self._check_iteration(action)
            case Emit(_, _, ended):
                for request in ended:
                    self._end_request(request, Outcome.ANSWERED)
            case Release(model):  # pragma: no branch  # the last kind
                self._residents[model].note_release(action)

    def _note_closed(self, model: ModelKey) -> None:
        one = self._models.pop(model, None) or self._residents.pop(model)
        if not one.is_empty:
            raise BrokenLaw(f"law 1: {model} closed with work left")
        self._draining.discard(model)

    def _check_releases(self, actions: list[Action[P]]) -> None:
        """Who is gone is gone before the next step of that instance is given."""
        begun = set()
        for action in actions:
            if isinstance(action, Iterate):
                begun.add((action.iteration.model, action.iteration.instance))
            elif isinstance(action, Release) and (action.model, action.instance) in begun:
                raise BrokenLaw(f"law 6: {action!r} comes after the step that it makes room for")

    def _end_request(self, request: InferRequest[P], outcome: Outcome) -> None:
        if request.id in self.outcomes:
            raise BrokenLaw(f"law 1: {request!r} is {outcome.value} but was {self.outcomes[request.id].value}")
        self.outcomes[request.id] = outcome
        if request.model in self._models:
            self._models[request.model].waiting.pop(request.id, None)
        elif request.model in self._residents:
            self._residents[request.model].waiting.pop(request.id, None)

    def _check_iteration(self, action: Iterate[P]) -> None:
        iteration = action.iteration
        books = self._residents[iteration.model]
        if (others := self._share_of_others(books)) and others + books.share + 1 / len(books.places) > 1 + _ROUNDING_S:
            raise BrokenLaw(f"law 4: {iteration!r} does not fit on its device beside what runs there")
        books.check_iteration(iteration, self._scheduler.resident_lane(iteration.model))
        is_wanted = any(one.waiting for one in self._all() if one.device == books.device and one is not books)
        if action.may_go_on and (is_wanted or books.places[iteration.instance].suspects):
            raise BrokenLaw(f"law 5: {iteration!r} may go on, but a step of it has failed, or others wait for its device")
        self.iterations.append(iteration)

    def _check_batch(self, batch: Batch[P], now: float) -> None:
        model = self._models[batch.model]
        ahead = len(model.running) - model.instances + 1
        if not model.instances or ahead > model.limits.ahead:
            raise BrokenLaw(f"law 4: {batch!r} is one too many for {model.instances} instances")
        if ahead > 0 and not is_complete(batch.rows, batch.close, model.mixing, model.limits, len(model.waiting)):
            raise BrokenLaw(f"law 4: {batch!r} is formed ahead, but could still gain from requests to come")
        if batch.rows > model.limits.batch_rows or batch.rows != sum(request.rows for request in batch.requests):
            raise BrokenLaw(f"law 4: {batch!r} exceeds {model.limits.batch_rows} rows or miscounts them")
        if model.mixing is Mixing.EQUAL and len({request.length for request in batch.requests}) > 1:
            raise BrokenLaw(f"law 4: {batch!r} mixes lengths that must not be padded")
        others = self._share_of_others(model)
        if others and ahead <= 0 and others + (len(model.running) + 1) / model.instances > 1 + _ROUNDING_S:
            raise BrokenLaw(f"law 4: {batch!r} does not fit on its device beside what runs there")
        self._check_order(batch, model)
        lane = self._scheduler.lane(batch.model)
        predicted_at = now + lane.forecast.at_best_s(batch.rows, batch.length)
        deadline_at = min(request.deadline_at for request in batch.requests)
        if predicted_at > deadline_at + _ROUNDING_S and not lane.tries_hopeless:
            raise BrokenLaw(f"law 4: {batch!r} starts at {now} but is predicted to end {predicted_at - deadline_at} s late")
        for request in batch.requests:
            del model.waiting[request.id]
        model.running[batch.id] = batch
        self.batches.append(batch)

    def _check_order(self, batch: Batch[P], model: _Model[P]) -> None:
        for request in batch.requests:
            if request.id not in model.waiting:
                raise BrokenLaw(f"law 1: {request!r} is in {batch!r} but does not wait")
        order = sorted(model.waiting.values(), key=_urgency)
        for priority in {request.priority for request in order}:
            model.passed_rows[priority] = model.passed_rows.get(priority, 0) + batch.rows
        if order[0] not in batch.requests:
            self._check_floor(batch, model, order[0])
        if batch.close is Close.ALONE:
            return
        if any(request.id in self._suspects for request in batch.requests):
            raise BrokenLaw(f"law 1: {batch!r} holds a request of a failed batch, which must run alone")
        order = [request for request in order if request.id not in self._suspects]
        for priority in {request.priority for request in batch.requests}:
            chosen = {request for request in batch.requests if request.priority == priority}
            fit = [request for request in order if request.priority == priority][: len(chosen)]
            if fit[0] not in chosen or (model.mixing is Mixing.ANY and set(fit) != chosen):
                raise BrokenLaw(f"law 3: {batch!r} is not the most urgent that wait, which are {fit!r}")

    def _check_floor(self, batch: Batch[P], model: _Model[P], passed: InferRequest[P]) -> None:
        """A batch without the most urgent request must be the floor of a lower priority, which has waited for it."""
        priority = min(request.priority for request in batch.requests)
        got = model.floor_rows[priority] = model.floor_rows.get(priority, 0) + batch.rows
        if priority <= passed.priority or got > FLOOR * model.passed_rows.get(priority, 0) + batch.rows:
            raise BrokenLaw(f"law 3: {batch!r} passes over the more urgent {passed!r}")

    def _share_of_others(self, model: _Model[P] | ResidentBooks[P]) -> float:
        """Of the device of this model, now."""
        return sum(one.share for one in self._all() if one.device == model.device and one is not model)

    def _all(self) -> list[_Model[P] | ResidentBooks[P]]:
        return [*self._models.values(), *self._residents.values()]

    def _check_idle(self) -> None:
        """A device with nothing to do while requests wait is a bug. A second instance may be held back for a larger batch, and a
        model may leave room for a more urgent one: while something runs, whose end will be the next event."""
        busy = {model.device for model in self._all() if model.share}
        devices = [model.device for model in self._all()]
        for key, model in self._models.items():
            may_wait = model.device in busy and (model.instances > 1 or devices.count(model.device) > 1)
            if model.waiting and len(model.running) < model.instances and not may_wait:
                raise BrokenLaw(f"an instance of {key} is idle while {len(model.waiting)} requests wait")
        for key, books in self._residents.items():
            may_wait = books.device in busy and devices.count(books.device) > 1
            if books.has_idle_work and not may_wait:
                raise BrokenLaw(f"an instance of {key} is idle while {len(books.waiting)} requests wait or are resident there")


def _urgency(request: InferRequest[P]) -> tuple[int, float, int]:
    return request.priority, request.deadline_at, request.id
