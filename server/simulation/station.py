"""Plays requests through a Scheduler in virtual time: the very object that serves, with devices that obey a law."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from server.core.costs import CostTable
from server.core.events import Action, Answer, Event, InstanceUp, Open, Refuse, Run, StepDone, Submit, Wake
from server.core.scheduler import Scheduler
from server.core.types import Batch, Limits, Mixing, ModelKey
from server.simulation.clients import MODEL, Request
from server.simulation.instances import Instances
from server.simulation.laws import Truth
from server.simulation.tally import Tally
from server.simulation.wire import NO_WIRE, Wire

See = Callable[[Scheduler[int], Event[int], list[Action[int]], float], None]
"""Called after every event: a witness such as core.invariants.Onlooker."""


class Times(Protocol):
    """What batches really take. A CostTable is one."""

    def batch_s(self, rows: int, length: int) -> float:
        """Seconds of a batch; it may be another one each time."""


@dataclass(frozen=True)
class Served:
    """A model on offer. `costs`: what the scheduler is told. `truth`: what a batch takes, given what `real` predicts (`costs` by
    default). `hand_over_s`: how long an idle instance takes to begin a batch; one that was formed ahead it begins at once.
    `inline`: its batches run on the event loop."""

    costs: CostTable
    key: ModelKey = MODEL
    mixing: Mixing = Mixing.ANY
    instances: int = 1
    ahead: int = 0
    queue_rows: int = 10**6
    real: Times | None = None
    truth: Truth | None = None
    hand_over_s: float = 0.0
    device: str | None = None
    inline: bool = False
    wire: Wire = NO_WIRE

    @property
    def limits(self) -> Limits:
        return Limits(self.costs.max_rows, self.queue_rows, self.ahead)

    def takes_s(self, batch: Batch[int], now: float) -> float:
        """What it really takes, once an instance has begun it."""
        predicted_s = (self.real or self.costs).batch_s(batch.rows, batch.length)
        return self.truth(predicted_s, now) if self.truth else predicted_s


def serve(requests: Sequence[Request], *models: Served, see: See | None = None) -> Tally:
    """Play the requests, which are in order of arrival, until the last one has its outcome."""
    return Station(models, see).run(requests)


@dataclass(frozen=True, slots=True)
class _Begin:
    """A batch that the event loop is to run."""

    batch: Batch[int]


class Station:
    """The agenda, the devices, the event loop and the books of one run.

    The event loop does one thing after the other: it reads a request, carries out what the scheduler decides, writes answers. What
    becomes due meanwhile waits; so do idle instances that it has given a batch, because they need the interpreter to begin. Where the
    models' wires cost nothing, it is in nobody's way.
    """

    def __init__(self, models: Sequence[Served], see: See | None = None) -> None:
        self.scheduler: Scheduler[int] = Scheduler()
        self.tally = Tally()
        self.now = 0.0
        self._see = see
        self._models = {model.key: model for model in models}
        self._instances: dict[ModelKey, Instances[int]] = {}
        self._agenda: list[tuple[float, int, StepDone[int] | _Begin]] = []
        self._loop_at = 0.0
        self._begins_at = 0.0
        for model in models:
            self._instances[model.key] = Instances(self._begin)
            self._feed(Open(model.key, model.limits, model.mixing, model.costs, model.device), 0.0)
            for _ in range(model.instances):
                self._instances[model.key].free()
                self._feed(InstanceUp(model.key), 0.0)

    def run(self, requests: Sequence[Request]) -> Tally:
        coming = iter(requests)
        newcomer = next(coming, None)
        while newcomer is not None or self._agenda:
            wake_at = self.scheduler.next_wakeup()
            arrives_at = float("inf") if newcomer is None else self._arrives_at(newcomer)
            ends_at = self._agenda[0][0] if self._agenda else float("inf")
            if wake_at is not None and wake_at < min(arrives_at, ends_at):
                self._feed(Wake(), wake_at)
            elif newcomer is not None and arrives_at < ends_at:
                self._feed(Submit(newcomer.model, (newcomer,)), self._awake_at(newcomer.model, arrives_at))
                newcomer = next(coming, None)
            else:
                self._go_on(*heapq.heappop(self._agenda))
        return self.tally

    def _go_on(self, at: float, _: int, event: StepDone[int] | _Begin) -> None:
        if isinstance(event, StepDone):
            self._end(event, at)
        else:
            self._run_inline(event.batch, at)

    def _arrives_at(self, request: Request) -> float:
        return request.arrived_at + self._models[request.model].wire.travel_s / 2

    def _awake_at(self, model: ModelKey, at: float) -> float:
        """When the event loop can turn to what happens at `at`: later, if it sleeps then."""
        wake_s = self._models[model].wire.wake_s if self._loop_at < at else 0.0
        self.tally.loop_s += wake_s
        return at + wake_s

    def _end(self, event: StepDone[int], at: float) -> None:
        self._begins_at = at
        self._instances[event.batch.model].free()
        self._feed(event, self._awake_at(event.batch.model, at))

    def _run_inline(self, batch: Batch[int], at: float) -> None:
        began_at = max(at, self._loop_at)
        takes_s = self._models[batch.model].takes_s(batch, began_at)
        self._keep_loop_busy(takes_s, began_at)
        self.tally.worked(batch, takes_s)
        self._feed(StepDone(batch, began_at), self._loop_at)

    def _feed(self, event: Event[int], at: float) -> None:
        """What happened at `at`: the event loop hears of it when it is free."""
        self.now = max(at, self._loop_at)
        actions = self.scheduler.handle(event, self.now)
        if self._see is not None:
            self._see(self.scheduler, event, actions, self.now)
        self._loop_at = self.now
        if isinstance(event, Submit):
            self._read(event, actions)
        for action in actions:
            self._carry_out(action)
        for action in actions:
            if isinstance(action, Run):
                self._start(action.batch)

    def _read(self, event: Submit[int], actions: Sequence[Action[int]]) -> None:
        """Who is refused is hardly looked at."""
        refused = {action.request for action in actions if isinstance(action, Refuse)}
        for request in event.requests:
            if request not in refused:
                self._keep_loop_busy(self._models[request.model].wire.read.of(request.rows, request.length), self._loop_at)

    def _keep_loop_busy(self, seconds: float, since: float) -> None:
        self._loop_at = since + seconds
        self.tally.loop_s += seconds

    def _begin(self, batch: Batch[int]) -> None:
        takes_s = self._models[batch.model].takes_s(batch, self._begins_at)
        self.tally.worked(batch, takes_s)
        heapq.heappush(self._agenda, (self._begins_at + takes_s, batch.id, StepDone(batch, self._begins_at)))

    def _carry_out(self, action: Action[int]) -> None:
        match action:
            case Answer(_, answered):
                for request in answered:
                    wire = self._models[request.model].wire
                    self._keep_loop_busy(wire.reply.of(request.rows, request.length), self._loop_at)
                    self.tally.answer((request,), self._loop_at + wire.travel_s / 2)
            case Refuse(request):
                self._keep_loop_busy(self._models[request.model].wire.refusal_s, self._loop_at)
                self.tally.refused.append(request)

    def _start(self, batch: Batch[int]) -> None:
        self.tally.batches.append(batch)
        model = self._models[batch.model]
        if model.inline:
            heapq.heappush(self._agenda, (self._loop_at, batch.id, _Begin(batch)))
        else:
            self._begins_at = self._loop_at + model.hand_over_s
            self._instances[batch.model].give(batch)
