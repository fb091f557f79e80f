"""The scheduler: handle(event, now) → actions, next_wakeup() → time. It decides; the runtime does.

Dispatches whenever an instance is idle and something waits; the next batch forms while the device is busy. Under backlog
it is handed over before an instance is free, so that the device never waits for us.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic

from server.core.device import Device
from server.core.events import (
    Action,
    Answer,
    Cancel,
    Closed,
    Drain,
    Event,
    Fail,
    InstanceLost,
    InstanceUp,
    Open,
    Recost,
    Refuse,
    Run,
    StepDone,
    StepFailed,
    Submit,
    Wake,
)  # fmt: skip
from server.core.lane import Lane
from server.core.policy import Choice, is_complete
from server.core.types import Batch, Failure, InferRequest, ModelKey, P, Refusal


class Scheduler(Generic[P]):
    """State of all models. Not thread-safe: one owner feeds it events in order, with a clock that never goes back."""

    def __init__(self) -> None:
        self._lanes: dict[ModelKey, Lane[P]] = {}
        self._devices: dict[str | ModelKey, Device[P]] = {}
        self._n_batches = 0

    def __repr__(self) -> str:
        return f"<Scheduler {' '.join(map(repr, self._lanes.values())) or 'empty'}>"

    def lane(self, model: ModelKey) -> Lane[P]:
        """Read-only view of one open model, for metrics and tests. Raises KeyError when it is not open."""
        return self._lanes[model]

    def handle(self, event: Event[P], now: float) -> list[Action[P]]:
        """The one entry. Actions come in the order to carry them out: the device is fed before answers are delivered."""
        match event:
            case Submit(model, requests):
                return self._submit(model, requests, now)
            case StepDone(batch, began_at):
                return self._done(batch, began_at, now)
            case Cancel(request):
                return self._cancel(request, now)
            case Wake():
                return self._wake(now)
            case StepFailed(batch, detail):
                return self._failed(batch, detail, now)
            case InstanceLost(model, batch, detail):
                return self._lost(self._lanes[model], batch, detail, now)
            case Drain(model):
                self._lanes[model].draining = True
                return self._close_empty(self._lanes[model].device)
            case Open() | Recost() | InstanceUp():  # pragma: no branch  # the last kinds of event
                return self._arrange(event, now)

    def next_wakeup(self) -> float | None:
        """When a waiting request becomes hopeless or a batch may be formed ahead, unless something happens before; None when
        nothing waits."""
        return min([lane.wake_at for lane in self._lanes.values() if lane.waiting], default=None)

    def _arrange(self, event: Open | Recost | InstanceUp, now: float) -> list[Action[P]]:
        """What a model has to serve with, and how good it is."""
        if isinstance(event, Open):
            assert event.model not in self._lanes, f"{event.model} is open"
            device = self._devices.setdefault(event.device or event.model, Device())
            self._lanes[event.model] = Lane(event.model, event.limits, event.mixing, event.costs, device)
            return []
        lane = self._lanes[event.model]
        if isinstance(event, Recost):
            lane.recost(event.limits, event.costs)
        else:
            lane.add_instance(now)
        return [*self._dispatch(lane.device, now), *self._close_empty(lane.device)]

    def _submit(self, model: ModelKey, requests: Iterable[InferRequest[P]], now: float) -> list[Action[P]]:
        lane = self._lanes.get(model)
        if lane is None or lane.draining:
            return [Refuse(request, Refusal.DRAINING, None) for request in requests]
        refused: list[Action[P]] = []
        for request in requests:
            if lane.device.is_shared:
                lane.asked(request, now)
            refusal = lane.refusal(request, now)
            if refusal is None:
                lane.waiting.add(request)
            else:
                refused.append(refusal)
        actions = [*self._dispatch(lane.device, now), *refused]
        return actions + self._close_empty(lane.device) if lane.device.is_shared else actions

    def _wake(self, now: float) -> list[Action[P]]:
        """Dispatch and refuse until nothing is left to decide: who is refused may have been in another's way, and the next head
        may be longer, and so hopeless earlier."""
        actions: list[Action[P]] = []
        while True:
            decided = [action for device in self._devices.values() for action in self._dispatch(device, now)]
            decided += [action for lane in self._lanes.values() for action in _refuse_late(lane, now, at_wakeup=True)]
            if not decided:
                break
            actions += decided
        for device in list(self._devices.values()):
            actions += self._close_empty(device)
        return actions

    def _dispatch(self, device: Device[P], now: float) -> list[Action[P]]:
        """Fill the device, then look ahead."""
        actions: list[Action[P]] = []
        while (lane := device.next(now)) is not None:
            actions += _refuse_late(lane, now, at_wakeup=False)
            if not lane.waiting:
                continue
            choice = lane.choose(now)
            if choice.requests:
                actions.append(Run(self._form(lane, choice, now)))
            else:
                assert choice.burden is not None, "no requests without a burden"
                actions.append(_refuse(lane, choice.burden, now))
        for lane in device.lanes:
            actions += self._form_ahead(lane, now)
        return actions

    def _form_ahead(self, lane: Lane[P], now: float) -> list[Action[P]]:
        """Hand a batch over shortly before an instance is free, if it would not become better by waiting."""
        actions: list[Action[P]] = []
        while lane.waiting and lane.ahead_at is not None and lane.ahead_at <= now and not lane.device.is_wanted_beside(lane):
            start_at = lane.free_at(now)
            if lane.latest_start(lane.waiting.head) < start_at:
                break  # its turn to be refused comes when an instance is really free
            choice = lane.choose(start_at)
            rows = sum(request.rows for request in choice.requests)
            if not is_complete(rows, choice.close, lane.mixing, lane.limits, len(lane.waiting)):
                break
            actions.append(Run(self._form(lane, choice, now)))
        lane.looked_ahead = lane.ahead_at is not None and lane.ahead_at <= now
        return actions

    def _form(self, lane: Lane[P], choice: Choice, now: float) -> Batch[P]:
        requests, close = choice.requests, choice.close
        lane.waiting.take(requests)
        self._n_batches += 1
        rows = sum(request.rows for request in requests)
        length = max(request.length for request in requests)
        batch = Batch(self._n_batches, lane.model, tuple(requests), rows, length, now, close)
        lane.start(batch)
        return batch

    def _done(self, batch: Batch[P], began_at: float | None, now: float) -> list[Action[P]]:
        lane = self._lanes[batch.model]
        lane.learn(batch, began_at, now)
        wanted = lane.finish(batch, now)
        actions = self._dispatch(lane.device, now)
        actions.append(Answer(batch, wanted))
        return actions + self._close_empty(lane.device)

    def _failed(self, batch: Batch[P], detail: str, now: float) -> list[Action[P]]:
        """One bad request must not fail its batch-mates: each of them runs again, alone."""
        lane = self._lanes[batch.model]
        wanted = lane.finish(batch, now)
        failed: list[Action[P]] = []
        if len(batch.requests) == 1:
            failed = [Fail(request, Failure.MODEL, detail) for request in wanted]
        else:
            lane.retry_alone(wanted)
        return [*self._dispatch(lane.device, now), *failed, *self._close_empty(lane.device)]

    def _lost(self, lane: Lane[P], batch: Batch[P] | None, detail: str, now: float) -> list[Action[P]]:
        lane.remove_instance()
        if batch is None:
            return []
        wanted = lane.finish(batch, now)
        failed: list[Action[P]] = [Fail(request, Failure.INSTANCE_LOST, detail) for request in wanted]
        return [*self._dispatch(lane.device, now), *failed, *self._close_empty(lane.device)]

    def _cancel(self, request: InferRequest[P], now: float) -> list[Action[P]]:
        lane = self._lanes.get(request.model)
        if lane is None:
            return []
        lane.cancel(request)
        actions = self._dispatch(lane.device, now) if lane.device.is_shared else []  # it may have been in another's way
        return actions + self._close_empty(lane.device)

    def _close_empty(self, device: Device[P]) -> list[Action[P]]:
        """Close the draining models of a device that have nothing left; a decision for one may have emptied another."""
        closed: list[Action[P]] = []
        for lane in [lane for lane in device.lanes if lane.draining and not lane.running and not lane.waiting]:
            del self._lanes[lane.model]
            device.lanes.remove(lane)
            closed.append(Closed(lane.model))
        if closed and not device.lanes:
            self._devices = {name: one for name, one in self._devices.items() if one is not device}
        return closed


def _refuse_late(lane: Lane[P], now: float, at_wakeup: bool) -> list[Action[P]]:
    """Refuse from the head of each priority what cannot end in time even alone. At a wake-up no instance is free for them, so
    a request whose last moment to start is now is late too."""
    refused: list[Action[P]] = []
    while lane.waiting:
        heads = list(lane.waiting.heads()) if lane.waiting.is_mixed else [lane.waiting.head]
        late = [head for head in heads if (latest := lane.latest_start(head)) < now or (latest == now and at_wakeup)]
        if not late:
            break
        refused += [_refuse(lane, head, now) for head in late]
    return refused


def _refuse(lane: Lane[P], request: InferRequest[P], now: float) -> Refuse[P]:
    lane.drop(request)
    return Refuse(request, Refusal.DEADLINE, lane.retry_after(now))
