"""Plays requests through a Scheduler in virtual time: the very object that serves, with devices that obey a law."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass

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

See = Callable[[Scheduler[int], Event[int], list[Action[int]], float], None]
"""Called after every event: a witness such as core.invariants.Onlooker."""


@dataclass(frozen=True)
class Served:
    """A model on offer. `costs`: what the scheduler is told; Unmeasured: nothing. `truth`: what a batch takes, given what `real` predicts (`costs` by
    default). `hand_over_s`: how long an idle instance takes to begin a batch; one that was formed ahead it begins at once."""

    costs: CostTable | Unmeasured
    key: ModelKey = MODEL
    mixing: Mixing = Mixing.ANY
    instances: int = 1
    ahead: int = 0
    queue_rows: int = 10**6
    real: CostTable | None = None
    truth: Truth | None = None
    hand_over_s: float = 0.0
    device: str | None = None

    @property
    def limits(self) -> Limits:
        return Limits(self.costs.max_rows, self.queue_rows, self.ahead)

    def takes_s(self, batch: Batch[int], now: float) -> float:
        """What it really takes."""
        real = self.real or self.costs
        assert isinstance(real, CostTable), "a model without known costs has real ones"
        predicted_s = real.batch_s(batch.rows, batch.length)
        takes_s = self.truth(predicted_s, now) if self.truth else predicted_s
        return takes_s + (self.hand_over_s if batch.formed_at == now else 0.0)


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
    """Play the requests, which are in order of arrival, to the end of the last one; every answer is delivered at once."""
    return Station(models, see).run(requests)


class Station:
    """The agenda, the devices and the books of one run."""

    def __init__(self, models: Sequence[Served | ServedTokens], see: See | None = None) -> None:
        self.scheduler: Scheduler[int] = Scheduler()
        self.tally = Tally()
        self.now = 0.0
        self._see = see
        self._models: dict[ModelKey, Served] = {}
        self._instances: dict[ModelKey, Instances[int]] = {}
        self._decoders: dict[ModelKey, ServedTokens] = {}
        self._n_tokens: dict[int, int] = {}
        self._ends: list[tuple[float, int, StepDone[int] | IterationDone[int]]] = []
        for model in models:
            if isinstance(model, Served):
                self._open(model)
            else:
                self._open_decoder(model)

    def _open(self, model: Served) -> None:
        self._models[model.key] = model
        self._instances[model.key] = Instances(self._begin)
        self._feed(Open(model.key, model.limits, model.mixing, model.costs, model.device))
        for _ in range(model.instances):
            self._instances[model.key].free()
            self._feed(InstanceUp(model.key))

    def _open_decoder(self, model: ServedTokens) -> None:
        self._decoders[model.key] = model
        self._feed(OpenResident(model.key, model.limits, model.costs, model.device))
        for number in range(model.instances):
            self._feed(InstanceUp(model.key, number))

    def run(self, requests: Sequence[Request]) -> Tally:
        coming = iter(requests)
        newcomer = next(coming, None)
        while newcomer is not None or self._ends:
            wake_at = self.scheduler.next_wakeup()
            arrives_at = float("inf") if newcomer is None else newcomer.arrived_at
            ends_at = self._ends[0][0] if self._ends else float("inf")
            if wake_at is not None and wake_at < min(arrives_at, ends_at):
                self.now = wake_at
                self._feed(Wake())
            elif newcomer is not None and arrives_at < ends_at:
                self.now = arrives_at
                self._feed(Submit(newcomer.model, (newcomer,)))
                newcomer = next(coming, None)
            else:
                self.now, _, event = heapq.heappop(self._ends)
                self._end(event)
        return self.tally

    def _end(self, event: StepDone[int] | IterationDone[int]) -> None:
        if isinstance(event, StepDone):
            self._instances[event.batch.model].free()
        self._feed(event)

    def _feed(self, event: Event[int]) -> None:
        actions = self.scheduler.handle(event, self.now)
        if self._see is not None:
            self._see(self.scheduler, event, actions, self.now)
        for action in actions:
            self._carry_out(action)

    def _begin(self, batch: Batch[int]) -> None:
        end_at = self.now + self._models[batch.model].takes_s(batch, self.now)
        heapq.heappush(self._ends, (end_at, batch.id, StepDone(batch, self.now)))

    def _step(self, iteration: Iteration[int]) -> None:
        """Each of its requests whose turn it is gets a token; its payload says how many it takes."""
        got = [*iteration.decode, *[chunk.request for chunk in iteration.chunks if chunk.is_last]]
        for request in got:
            self._n_tokens[request.id] = self._n_tokens.get(request.id, 0) + 1
        ended = tuple([request for request in got if self._n_tokens[request.id] == request.payload])
        end_at = self.now + self._decoders[iteration.model].takes_s(iteration, self.now)
        heapq.heappush(self._ends, (end_at, iteration.id, IterationDone(iteration, ended, self.now)))

    def _carry_out(self, action: Action[int]) -> None:
        match action:
            case Run(batch):
                self.tally.batches.append(batch)
                self._instances[batch.model].give(batch)
            case Answer(_, answered):
                self.tally.answer(answered, self.now)
            case Iterate(iteration):
                self.tally.streams.steps.append(iteration)
                self._step(iteration)
            case Emit(_, requests, ended):
                self.tally.streams.emit(requests, ended, self.now)
            case Refuse(request):
                self.tally.refused.append(request)
