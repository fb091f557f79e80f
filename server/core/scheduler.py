"""The scheduler: handle(event, now) → actions, next_wakeup() → time. It decides; the runtime does.

Dispatches whenever an instance is idle and something waits; the next batch forms while the device is busy. Under backlog
it is handed over before an instance is free, so that the device never waits for us. What starts next is up to each model:
batches in lane.py, steps of resident requests in resident_lane.py.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    IterationDone,
    IterationFailed,
    Open,
    OpenResident,
    Recost,
    Refuse,
    StepDone,
    StepFailed,
    Submit,
    Wake,
)  # fmt: skip
from server.core.lane import Lane
from server.core.resident_lane import ResidentLane
from server.core.tenant import Tenant
from server.core.types import Batch, Failure, InferRequest, ModelKey, P, Refusal


class Scheduler(Generic[P]):
    """State of all models. Not thread-safe: one owner feeds it events in order, with a clock that never goes back."""

    def __init__(self) -> None:
        self._lanes: dict[ModelKey, Lane[P]] = {}
        self._residents: dict[ModelKey, ResidentLane[P]] = {}
        self._devices: dict[str | ModelKey, Device[P]] = {}
        self._n_batches = 0  # and steps

    def __repr__(self) -> str:
        return f"<Scheduler {' '.join(map(repr, [*self._lanes.values(), *self._residents.values()])) or 'empty'}>"

    def lane(self, model: ModelKey) -> Lane[P]:
        """Read-only view of one open model, for metrics and tests. Raises KeyError when it is not open."""
        return self._lanes[model]

    def resident_lane(self, model: ModelKey) -> ResidentLane[P]:
        """The same for a model whose requests stay resident."""
        return self._residents[model]

    def _tenant(self, model: ModelKey) -> Tenant[P]:
        return self._lanes.get(model) or self._residents[model]

    def handle(self, event: Event[P], now: float) -> list[Action[P]]:
        """The one entry. Actions come in the order to carry them out: the device is fed before answers are delivered."""
        match event:
            case Submit(model, requests):
                return self._submit(model, requests, now)
            case StepDone(batch, began_at):
                return self._done(batch, began_at, now)
            case IterationDone():
                resident = self._residents[event.iteration.model]
                return self._go_on(resident, *resident.finish(event, now), now)
            case Cancel(request):
                return self._cancel(request, now)
            case Wake():
                return self._wake(now)
            case StepFailed(batch, detail):
                return self._failed(batch, detail, now)
            case IterationFailed(iteration, detail):
                resident = self._residents[iteration.model]
                return self._go_on(resident, *resident.fail(iteration, detail), now)
            case (
                Open() | OpenResident() | Recost() | InstanceUp() | InstanceLost() | Drain()
            ):  # pragma: no branch  # the last kinds of event
                return self._changed(event, now)

    def _changed(
        self, event: Open | OpenResident | Recost | InstanceUp | InstanceLost[P] | Drain, now: float
    ) -> list[Action[P]]:
        """What is on offer, or on how many instances, or how good they are, is another."""
        match event:
            case Open(model, limits, mixing, costs, name):
                self._lanes[model] = Lane(model, limits, mixing, costs, self._device(model, name))
                return []
            case OpenResident(model, limits, costs, name):
                self._residents[model] = ResidentLane(model, limits, costs, self._device(model, name))
                return []
            case Recost(model, limits, costs):
                recosted = self._lanes[model]
                recosted.recost(limits, costs)
                return [*self._dispatch(recosted.device, now), *self._close_empty(recosted.device)]
            case InstanceUp(model, instance):
                tenant = self._tenant(model)
                tenant.add_instance(now, instance)
                return [*self._dispatch(tenant.device, now), *self._close_empty(tenant.device)]
            case InstanceLost(model, batch, detail, instance):
                if model in self._residents:
                    lane = self._residents[model]
                    return self._go_on(lane, [], lane.lose(instance, detail), now)
                return self._lost(self._lanes[model], batch, detail, now)
            case Drain(model):  # pragma: no branch  # the last kind of event
                self._tenant(model).draining = True
                return self._close_empty(self._tenant(model).device)

    def _next_number(self) -> int:
        """For a batch or a step."""
        self._n_batches += 1
        return self._n_batches

    def _device(self, model: ModelKey, name: str | None) -> Device[P]:
        assert model not in {*self._lanes, *self._residents}, f"{model} is open"
        return self._devices.setdefault(name or model, Device())

    def next_wakeup(self) -> float | None:
        """When a waiting request becomes hopeless or a batch may be formed ahead, unless something happens before; None when
        nothing waits."""
        wakes = [lane.wake_at for lane in self._lanes.values() if lane.waiting]
        if self._residents:
            wakes += [lane.wake_at for lane in self._residents.values() if lane.waiting]
        return min(wakes, default=None)

    def _submit(self, model: ModelKey, requests: Sequence[InferRequest[P]], now: float) -> list[Action[P]]:
        lane = self._lanes.get(model)
        if lane is not None and lane.is_at_rest:
            started = lane.start_together(requests, now, self._next_number)
            if started is not None:
                return [started]
        return self._queue(lane or self._residents.get(model), requests, now)

    def _queue(self, lane: Tenant[P] | None, requests: Sequence[InferRequest[P]], now: float) -> list[Action[P]]:
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
            for lane in (*self._lanes.values(), *self._residents.values()):
                decided += lane.refuse_late(now, at_wakeup=True)
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
            actions += lane.start_next(now, self._next_number)
        for lane in device.lanes:
            actions += lane.look_ahead(now, self._next_number)
        return actions

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

    def _go_on(self, lane: ResidentLane[P], before: list[Action[P]], after: list[Action[P]], now: float) -> list[Action[P]]:
        """A step has ended: what the next one may build on, the next steps, what clients are told."""
        return [*before, *self._dispatch(lane.device, now), *after, *self._close_empty(lane.device)]

    def _cancel(self, request: InferRequest[P], now: float) -> list[Action[P]]:
        lane = self._lanes.get(request.model)
        if lane is None:
            return self._cancel_resident(request, now)
        lane.cancel(request)
        actions = self._dispatch(lane.device, now) if lane.device.is_shared else []  # it may have been in another's way
        return actions + self._close_empty(lane.device)

    def _cancel_resident(self, request: InferRequest[P], now: float) -> list[Action[P]]:
        lane = self._residents.get(request.model)
        return [] if lane is None else self._go_on(lane, lane.cancel(request), [], now)

    def _close_empty(self, device: Device[P]) -> list[Action[P]]:
        """Close the draining models of a device that have nothing left; a decision for one may have emptied another."""
        closed: list[Action[P]] = []
        for lane in [lane for lane in device.lanes if lane.draining and lane.is_empty]:
            self._lanes.pop(lane.model, None)
            self._residents.pop(lane.model, None)
            device.lanes.remove(lane)
            closed.append(Closed(lane.model))
        if closed and not device.lanes:
            self._devices = {name: one for name, one in self._devices.items() if one is not device}
        return closed
