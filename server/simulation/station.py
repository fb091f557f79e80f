"""Plays requests through a Scheduler in virtual time: the very object that serves, with devices that obey a law."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from server.core.costs import CostTable, Unmeasured
from server.core.events import Action, Answer, Event, InstanceUp, Open, Refuse, Run, StepDone, Submit, Wake
from server.core.scheduler import Scheduler
from server.core.types import Batch, Limits, Mixing, ModelKey
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


def serve(requests: Sequence[Request], *models: Served, see: See | None = None) -> Tally:
    """Play the requests, which are in order of arrival, to the end of the last one; every answer is delivered at once."""
    return Station(models, see).run(requests)


class Station:
    """The agenda, the devices and the books of one run."""

    def __init__(self, models: Sequence[Served], see: See | None = None) -> None:
        self.scheduler: Scheduler[int] = Scheduler()
        self.tally = Tally()
        self.now = 0.0
        self._see = see
        self._models = {model.key: model for model in models}
        self._instances: dict[ModelKey, Instances[int]] = {}
        self._ends: list[tuple[float, int, StepDone[int]]] = []
        for model in models:
            self._instances[model.key] = Instances(self._begin)
            self._feed(Open(model.key, model.limits, model.mixing, model.costs, model.device))
            for _ in range(model.instances):
                self._instances[model.key].free()
                self._feed(InstanceUp(model.key))

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

    def _end(self, event: StepDone[int]) -> None:
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

    def _carry_out(self, action: Action[int]) -> None:
        match action:
            case Run(batch):
                self.tally.batches.append(batch)
                self._instances[batch.model].give(batch)
            case Answer(_, answered):
                self.tally.answer(answered, self.now)
            case Refuse(request):
                self.tally.refused.append(request)
