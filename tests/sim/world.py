"""A random world in virtual time: clients, devices and accidents around one scheduler. No sleeps, no wall clock.

Everything follows from the seed. The onlooker checks the laws after every event.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from server.core.costs import CostTable, Unmeasured
from server.core.events import (
    Action,
    Cancel,
    Drain,
    Event,
    InstanceLost,
    InstanceUp,
    Open,
    Recost,
    Run,
    StepDone,
    StepFailed,
    Submit,
    Wake,
)  # fmt: skip
from server.core.invariants import Onlooker
from server.core.scheduler import Scheduler
from server.core.types import Batch, InferRequest, Limits, Mixing, ModelKey
from server.simulation.instances import Instances
from server.simulation.laws import linear_profile

Request = InferRequest[str]


@dataclass(frozen=True)
class Nature:
    """How unkind a world is: shares of 1."""

    cancels: float
    step_failures: float
    poison: float
    losses: float
    slowdown: float
    late_timers: bool


class World:
    """Drives a Scheduler[str] from a heap of (time, order, what happens)."""

    def __init__(self, seed: int, scheduler: Scheduler[str] | None = None) -> None:
        self.random = random.Random(seed)
        self._news = random.Random(-seed)  # of its own, so that the other worlds stay what they were
        self.scheduler: Scheduler[str] = scheduler or Scheduler()
        self.onlooker: Onlooker[str] = Onlooker(self.scheduler)
        self.now = 0.0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0
        self._ids = 0
        self._wake_at: float | None = None
        self._instances: dict[ModelKey, Instances[str]] = {}
        self._costs: dict[ModelKey, CostTable] = {}
        self._poisoned: set[int] = set()
        self.nature = Nature(
            cancels=self.random.choice((0.0, 0.1, 0.4)),
            step_failures=self.random.choice((0.0, 0.05, 0.3)),
            poison=self.random.choice((0.0, 0.02)),
            losses=self.random.choice((0.0, 0.0, 0.1)),
            slowdown=self.random.choice((0.6, 1.0, 1.0, 3.0)),
            late_timers=self.random.random() < 0.5,
        )

    def run(self) -> Onlooker[str]:
        """Play to the end and check that every request has its outcome."""
        self.begin()
        while self._heap:
            self.now, _, happen = heapq.heappop(self._heap)
            happen()
        self.onlooker.end()
        return self.onlooker

    def begin(self) -> None:
        """Open the models and put their clients on the agenda."""
        device = self.random.choice((None, "shared"))
        for number in range(self.random.choice((1, 1, 2, 3))):
            self.open_model(ModelKey(f"m{number}", 1), device)

    def feed(self, event: Event[str]) -> None:
        """Hand one event to the scheduler, check the laws, carry out its actions, keep the timer it asks for."""
        actions = self.scheduler.handle(event, self.now)
        self.onlooker.see(event, actions, self.now)
        self._carry_out(actions)
        self._set_timer()

    def next_id(self) -> int:
        self._ids += 1
        return self._ids

    def at(self, time: float, happen: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._heap, (time, self._order, happen))

    def open_model(self, model: ModelKey, device: str | None) -> None:
        rnd = self.random
        mixing = rnd.choice((Mixing.ANY, Mixing.PADDED, Mixing.EQUAL))
        lengths = (0,) if mixing is Mixing.ANY else (4, 16, 64)
        alpha, beta = rnd.choice(((0.001, 0.004), (0.0, 0.005), (0.002, 0.0005)))
        profile = linear_profile(alpha / max(1, lengths[-1] // 4), beta, lengths=lengths)
        batch_rows = rnd.choice((1, 4, 32))
        costs = self._costs[model] = CostTable(profile, batch_rows)
        wrong = rnd.choice((1.0, 1.0, 0.5, 1.5))  # what the scheduler is told
        told = CostTable(linear_profile(wrong * alpha / max(1, lengths[-1] // 4), wrong * beta, lengths=lengths), batch_rows)
        known: CostTable | Unmeasured = told if self._news.random() < 0.95 else Unmeasured(batch_rows, lengths[-1])
        self._instances[model] = Instances(self._begin)
        limits = Limits(batch_rows, rnd.choice((8, 1000)), rnd.choice((0, 1, 1, 2)))
        self.feed(Open(model, limits, mixing, known, device))
        for _ in range(rnd.choice((1, 1, 2, 3))):
            self.at(rnd.choice((0.0, 0.05)), lambda: self._come_up(model))
        priorities = rnd.choice(((0,), (0,), (0, 1), (-1, 0, 5)))
        slo_s = costs.batch_s(1, lengths[-1]) * rnd.choice((1.2, 3, 10, 100))
        at = 0.0
        gap_s = costs.batch_s(batch_rows, lengths[-1]) / batch_rows / rnd.choice((0.2, 0.9, 1.5, 4))
        for _ in range(rnd.randrange(5, 60)):
            at += rnd.expovariate(1 / gap_s)
            self.at(at, lambda: self._arrive(model, slo_s, batch_rows, lengths[-1], priorities))
        self.at(at * rnd.choice((0.5, 1.0, 2.0)), lambda: self.feed(Drain(model)))
        if self._news.random() < 0.15:
            limits = limits._replace(queue_rows=self._news.choice((8, 1000)), ahead=self._news.choice((0, 1)))
            self.at(at * self._news.choice((0.1, 0.5, 1.5)), lambda: self._recost(Recost(model, limits, told)))

    def _arrive(self, model: ModelKey, slo_s: float, batch_rows: int, longest: int, priorities: tuple[int, ...]) -> None:
        rnd = self.random
        requests = []
        for _ in range(rnd.choice((1, 1, 1, 5))):
            number = self.next_id()
            rows = rnd.choice((1, 1, 1, min(3, batch_rows)))
            length = rnd.randint(1, longest) if longest else 0
            deadline_at = self.now + slo_s * rnd.choice((1.0, 1.0, 0.3))
            requests.append(InferRequest(number, model, rows, length, self.now, deadline_at, "payload", rnd.choice(priorities)))
            if rnd.random() < self.nature.poison:
                self._poisoned.add(number)
        self.feed(Submit(model, tuple(requests)))
        for request in requests:
            if rnd.random() < self.nature.cancels:
                self.at(self.now + rnd.expovariate(2 / slo_s), lambda r=request: self.feed(Cancel(r)))  # type: ignore[misc]

    def _recost(self, event: Recost) -> None:
        with suppress(KeyError):  # the model may have closed meanwhile
            self.scheduler.lane(event.model)
            self.feed(event)

    def _carry_out(self, actions: list[Action[str]]) -> None:
        for action in actions:
            self.carry_out(action)

    def carry_out(self, action: Action[str]) -> None:
        if isinstance(action, Run):
            self._instances[action.batch.model].give(action.batch)

    def _begin(self, batch: Batch[str]) -> None:
        rnd = self.random
        cost_s = self._costs[batch.model].batch_s(batch.rows, batch.length)
        end_at = self.now + cost_s * self.nature.slowdown * rnd.uniform(0.9, 1.1)
        if rnd.random() < self.nature.losses:
            self.at(self.now + rnd.random() * cost_s, lambda: self._lose(batch))
        elif rnd.random() < self.nature.step_failures or self._is_poisoned(batch):
            self.at(end_at, lambda: self._end(StepFailed(batch, "boom")))
        else:
            began_at = rnd.choice((None, self.now))
            self.at(end_at, lambda: self._end(StepDone(batch, began_at)))

    def _end(self, event: StepDone[str] | StepFailed[str]) -> None:
        self._instances[event.batch.model].free()
        self.feed(event)

    def _is_poisoned(self, batch: Batch[str]) -> bool:
        return any(request.id in self._poisoned for request in batch.requests)

    def _lose(self, batch: Batch[str]) -> None:
        self.feed(InstanceLost(batch.model, batch, "gone"))
        self.at(self.now + 0.01, lambda: self._come_up(batch.model))

    def _come_up(self, model: ModelKey) -> None:
        try:
            self.scheduler.lane(model)
        except KeyError:
            return  # the model closed meanwhile
        self._instances[model].free()
        self.feed(InstanceUp(model))

    def _set_timer(self) -> None:
        wanted = self.scheduler.next_wakeup()
        if wanted is None or wanted == self._wake_at:
            return
        self._wake_at = wanted
        late = self.random.choice((0.0, 0.001, 0.02)) if self.nature.late_timers else 0.0
        self.at(max(self.now, wanted) + late, self._wake)

    def _wake(self) -> None:
        """A punctual timer may ring early for a plan that has changed; a real one would have been moved."""
        wanted = self.scheduler.next_wakeup()
        self._wake_at = None
        if wanted is not None and wanted <= self.now:
            self.feed(Wake())
        else:
            self._set_timer()
