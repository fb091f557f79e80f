"""The scheduler: handle(event, now) → actions, next_wakeup() → time. It decides; the runtime does.

Dispatches whenever an instance is idle and something waits; the next batch forms while the device is busy. Under backlog
it is handed over before an instance is free, so that the device never waits for us.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic

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
                return self._cancel(request)
            case Wake():
                return self._wake(now)
            case StepFailed(batch, detail):
                return self._failed(batch, detail, now)
            case Open(model, limits, mixing, costs):
                assert model not in self._lanes, f"{model} is open"
                self._lanes[model] = Lane(model, limits, mixing, costs)
                return []
            case InstanceUp(model):
                lane = self._lanes[model]
                lane.add_instance(now)
                return [*self._dispatch(lane, now), *self._close_if_empty(lane)]
            case InstanceLost(model, batch, detail):
                return self._lost(self._lanes[model], batch, detail, now)
            case Drain(model):  # pragma: no branch  # the last kind of event
                self._lanes[model].draining = True
                return self._close_if_empty(self._lanes[model])

    def next_wakeup(self) -> float | None:
        """When a waiting request becomes hopeless or a batch may be formed ahead, unless something happens before; None when
        nothing waits."""
        return min([lane.wake_at for lane in self._lanes.values() if lane.waiting], default=None)

    def _submit(self, model: ModelKey, requests: Iterable[InferRequest[P]], now: float) -> list[Action[P]]:
        lane = self._lanes.get(model)
        if lane is None or lane.draining:
            return [Refuse(request, Refusal.DRAINING, None) for request in requests]
        refused: list[Action[P]] = []
        for request in requests:
            refusal = lane.refusal(request, now)
            if refusal is None:
                lane.waiting.add(request)
            else:
                refused.append(refusal)
        return [*self._dispatch(lane, now), *refused]

    def _wake(self, now: float) -> list[Action[P]]:
        actions: list[Action[P]] = []
        for lane in list(self._lanes.values()):
            actions += _refuse_late(lane, now, at_wakeup=True)
            actions += self._form_ahead(lane, now)
            actions += _refuse_late(lane, now, at_wakeup=True)  # the new head may be longer, and so hopeless earlier
            actions += self._close_if_empty(lane)
        return actions

    def _dispatch(self, lane: Lane[P], now: float) -> list[Action[P]]:
        """Fill every idle instance, then look ahead."""
        actions: list[Action[P]] = []
        while lane.waiting and lane.idle > 0:
            actions += _refuse_late(lane, now, at_wakeup=False)
            if not lane.waiting:
                break
            choice = lane.choose(now)
            actions.append(Run(self._form(lane, choice, now)) if choice.requests else _refuse_head(lane, now))
        return actions + self._form_ahead(lane, now)

    def _form_ahead(self, lane: Lane[P], now: float) -> list[Action[P]]:
        """Hand a batch over shortly before an instance is free, if it would not become better by waiting."""
        actions: list[Action[P]] = []
        while lane.waiting and lane.ahead_at is not None and lane.ahead_at <= now:
            start_at = lane.free_at(now)
            if lane.latest_start(lane.waiting.head) < start_at:
                break  # its turn to be refused comes when an instance is really free
            requests, close = choice = lane.choose(start_at)
            rows = sum(request.rows for request in requests)
            if not is_complete(rows, close, lane.mixing, lane.limits, len(lane.waiting)):
                break
            actions.append(Run(self._form(lane, choice, now)))
        lane.looked_ahead = lane.ahead_at is not None and lane.ahead_at <= now
        return actions

    def _form(self, lane: Lane[P], choice: Choice, now: float) -> Batch[P]:
        requests, close = choice
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
        actions = self._dispatch(lane, now)
        actions.append(Answer(batch, wanted))
        return actions + self._close_if_empty(lane)

    def _failed(self, batch: Batch[P], detail: str, now: float) -> list[Action[P]]:
        """One bad request must not fail its batch-mates: each of them runs again, alone."""
        lane = self._lanes[batch.model]
        wanted = lane.finish(batch, now)
        failed: list[Action[P]] = []
        if len(batch.requests) == 1:
            failed = [Fail(request, Failure.MODEL, detail) for request in wanted]
        else:
            lane.retry_alone(wanted)
        return [*self._dispatch(lane, now), *failed, *self._close_if_empty(lane)]

    def _lost(self, lane: Lane[P], batch: Batch[P] | None, detail: str, now: float) -> list[Action[P]]:
        lane.remove_instance()
        if batch is None:
            return []
        wanted = lane.finish(batch, now)
        failed: list[Action[P]] = [Fail(request, Failure.INSTANCE_LOST, detail) for request in wanted]
        return failed + self._close_if_empty(lane)

    def _cancel(self, request: InferRequest[P]) -> list[Action[P]]:
        lane = self._lanes.get(request.model)
        if lane is None:
            return []
        lane.cancel(request)
        return self._close_if_empty(lane)

    def _close_if_empty(self, lane: Lane[P]) -> list[Action[P]]:
        if not lane.draining or lane.running or lane.waiting:
            return []
        del self._lanes[lane.model]
        return [Closed(lane.model)]


def _refuse_late(lane: Lane[P], now: float, at_wakeup: bool) -> list[Action[P]]:
    """Refuse from the head of the queue what cannot end in time even alone. At a wake-up no instance is idle, so a
    request whose last moment to start is now is late too."""
    refused: list[Action[P]] = []
    while lane.waiting:
        head = lane.waiting.head
        latest = lane.latest_start(head)
        if latest > now or (latest == now and not at_wakeup):
            break
        refused.append(_refuse_head(lane, now))
    return refused


def _refuse_head(lane: Lane[P], now: float) -> Refuse[P]:
    head = lane.waiting.head
    lane.drop(head)
    return Refuse(head, Refusal.DEADLINE, lane.retry_after(now))
