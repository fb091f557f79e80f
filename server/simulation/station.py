"""Plays requests through a Scheduler in virtual time: the very object that serves, with devices that obey a law."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from server.core.costs import CostTable, StepCosts, Unmeasured
from server.core.events import (
    Action,
    Answer,
    Emit,
    Event,
    InstanceUp,
    Iterate,
    IterationDone,
    Open,
    OpenResident,
    Refuse,
    Run,
    StepDone,
    Submit,
    Wake,
)  # fmt: skip
from server.core.scheduler import Scheduler
from server.core.types import Batch, Iteration, Limits, Mixing, ModelKey, ResidentLimits
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
    """A model on offer. `costs`: what the scheduler is told; Unmeasured: nothing. `truth`: what a batch takes, given what `real` predicts
    (`costs` by default). `hand_over_s`: how long an idle instance takes to begin a batch; one that was formed ahead it begins at once."""

    costs: CostTable | Unmeasured
    key: ModelKey = MODEL
    mixing: Mixing = Mixing.ANY
    instances: int = 1
    ahead: int = 0
    queue_rows: int = 10**6
    real: Times | None = None
    truth: Truth | None = None
    hand_over_s: float = 0.0
    device: str | None = None
    wire: Wire = NO_WIRE

    @property
    def limits(self) -> Limits:
        return Limits(self.costs.max_rows, self.queue_rows, self.ahead)

    def is_brief(self, batch: Batch[int]) -> bool:
        """Whether the event loop runs it."""
        return isinstance(self.costs, CostTable) and self.costs.is_brief(batch.rows, batch.length)

    def takes_s(self, batch: Batch[int], now: float) -> float:
        """What it really takes, once an instance has begun it."""
        real = self.real or self.costs
        assert not isinstance(real, Unmeasured), "a model without known costs has real ones"
        predicted_s = real.batch_s(batch.rows, batch.length)
        return self.truth(predicted_s, now) if self.truth else predicted_s


@dataclass(frozen=True)
class ServedTokens:
    """A generating model on offer. `costs`, `real` and `truth` as in Served, for its steps."""

    costs: StepCosts
    limits: ResidentLimits
    key: ModelKey = MODEL
    instances: int = 1
    real: StepCosts | None = None
    truth: Truth | None = None
    device: str | None = None

    def takes_s(self, iteration: Iteration[int], now: float) -> float:
        """What it really takes."""
        costs = self.real or self.costs
        predicted_s = costs.decode_s(len(iteration.decode), iteration.context) if iteration.decode else 0.0
        predicted_s += sum([costs.prefill_s(chunk.stop - chunk.start) for chunk in iteration.chunks])
        return self.truth(predicted_s, now) if self.truth else predicted_s


def serve(requests: Sequence[Request], *models: Served | ServedTokens, see: See | None = None) -> Tally:
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

    def __init__(self, models: Sequence[Served | ServedTokens], see: See | None = None) -> None:
        self.scheduler: Scheduler[int] = Scheduler()
        self.tally = Tally()
        self.now = 0.0
        self._see = see
        self._models: dict[ModelKey, Served] = {}
        self._instances: dict[ModelKey, Instances[int]] = {}
        self._decoders: dict[ModelKey, ServedTokens] = {}
        self._n_tokens: dict[int, int] = {}
        self._wires: dict[ModelKey, Wire] = {}
        self._agenda: list[tuple[float, int, StepDone[int] | IterationDone[int] | _Begin]] = []
        self._loop_at = 0.0
        self._begins_at = 0.0
        for model in models:
            if isinstance(model, Served):
                self._open(model)
            else:
                self._open_decoder(model)

    def _open(self, model: Served) -> None:
        self._models[model.key], self._wires[model.key] = model, model.wire
        self._instances[model.key] = Instances(self._begin)
        self._feed(Open(model.key, model.limits, model.mixing, model.costs, model.device), 0.0)
        for _ in range(model.instances):
            self._instances[model.key].free()
            self._feed(InstanceUp(model.key), 0.0)

    def _open_decoder(self, model: ServedTokens) -> None:
        self._decoders[model.key], self._wires[model.key] = model, NO_WIRE
        self._feed(OpenResident(model.key, model.limits, model.costs, model.device), 0.0)
        for number in range(model.instances):
            self._feed(InstanceUp(model.key, number), 0.0)

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

    def _go_on(self, at: float, _: int, event: StepDone[int] | IterationDone[int] | _Begin) -> None:
        if isinstance(event, StepDone):
            self._end(event, at)
        elif isinstance(event, IterationDone):
            self._feed(event, at)
        else:
            self._run_on_loop(event.batch, at)

    def _arrives_at(self, request: Request) -> float:
        return request.arrived_at + self._wires[request.model].travel_s / 2

    def _awake_at(self, model: ModelKey, at: float) -> float:
        """When the event loop can turn to what happens at `at`: later, if it sleeps then."""
        wake_s = self._wires[model].wake_s if self._loop_at < at else 0.0
        self.tally.loop_s += wake_s
        return at + wake_s

    def _end(self, event: StepDone[int], at: float) -> None:
        self._begins_at = at
        self._instances[event.batch.model].free()
        self._feed(event, self._awake_at(event.batch.model, at))

    def _run_on_loop(self, batch: Batch[int], at: float) -> None:
        began_at = max(at, self._loop_at)
        takes_s = self._models[batch.model].takes_s(batch, began_at)
        self._keep_loop_busy(takes_s, began_at)
        self.tally.worked(batch, takes_s)
        self._instances[batch.model].free()
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
                self._keep_loop_busy(self._wires[request.model].read.of(request.rows, request.length), self._loop_at)

    def _keep_loop_busy(self, seconds: float, since: float) -> None:
        self._loop_at = since + seconds
        self.tally.loop_s += seconds

    def _begin(self, batch: Batch[int]) -> None:
        takes_s = self._models[batch.model].takes_s(batch, self._begins_at)
        self.tally.worked(batch, takes_s)
        heapq.heappush(self._agenda, (self._begins_at + takes_s, batch.id, StepDone(batch, self._begins_at)))

    def _step(self, iteration: Iteration[int]) -> None:
        """Each of its requests whose turn it is gets a token; its payload says how many it takes."""
        got = [*iteration.decode, *[chunk.request for chunk in iteration.chunks if chunk.is_last]]
        for request in got:
            self._n_tokens[request.id] = self._n_tokens.get(request.id, 0) + 1
        ended = tuple([request for request in got if self._n_tokens[request.id] == request.payload])
        end_at = self.now + self._decoders[iteration.model].takes_s(iteration, self.now)
        heapq.heappush(self._agenda, (end_at, iteration.id, IterationDone(iteration, ended, self.now)))

    def _carry_out(self, action: Action[int]) -> None:
        match action:
            case Answer(_, answered):
                for request in answered:
                    wire = self._wires[request.model]
                    self._keep_loop_busy(wire.reply.of(request.rows, request.length), self._loop_at)
                    self.tally.answer((request,), self._loop_at + wire.travel_s / 2)
            case Iterate(iteration):
                self.tally.streams.steps.append(iteration)
                self._step(iteration)
            case Emit(_, requests, ended):
                self.tally.streams.emit(requests, ended, self.now)
            case Refuse(request):
                self._keep_loop_busy(self._wires[request.model].refusal_s, self._loop_at)
                self.tally.refused.append(request)

    def _start(self, batch: Batch[int]) -> None:
        self.tally.batches.append(batch)
        model = self._models[batch.model]
        if model.is_brief(batch) and self._instances[batch.model].take():
            heapq.heappush(self._agenda, (self._loop_at, batch.id, _Begin(batch)))
        else:
            self._begins_at = self._loop_at + model.hand_over_s
            self._instances[batch.model].give(batch)
