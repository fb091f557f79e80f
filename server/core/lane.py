"""The scheduler's state for one open model whose requests take one step: who waits, what runs, how the device keeps to its profile."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Generic

from server.core.company import Company
from server.core.costs import CostTable, Unmeasured
from server.core.device import Device
from server.core.events import Action, Run
from server.core.floors import Floors
from server.core.forecast import Forecast
from server.core.learning import Learning
from server.core.policy import WINDOW, Choice, behind, choose, in_time, is_complete, most_rows, of_one_priority
from server.core.tenant import Tenant, WhyNot
from server.core.types import Batch, Close, Demand, InferRequest, Limits, Mixing, ModelKey, P, Refusal
from server.core.waiting import Waiting, WaitingByLength

LEAD = 0.25
"""The next batch may be formed when this share of the running one's time is left: early enough for a device that is faster
than expected, late enough that few urgent requests come too late for it."""


TRY = 0.1
"""For this share of the time that it is allowed, a request is tried although it seems hopeless, where costs were not known at first."""


@dataclass(slots=True)
class _Running(Generic[P]):
    """A batch in flight and the ids of its requests that still want an answer. `is_ahead`: formed before an instance was
    free; `began`: an instance has taken it up."""

    batch: Batch[P]
    wanted: set[int]
    expected_at: float
    is_ahead: bool
    began: bool


class Lane(Tenant[P]):
    """One model's queue and instances. The Scheduler mutates it; everybody else reads."""

    def __init__(
        self, model: ModelKey, limits: Limits, mixing: Mixing, costs: CostTable | Unmeasured, device: Device[P]
    ) -> None:  # fmt: skip
        self.forecast: Forecast = Learning(costs) if isinstance(costs, Unmeasured) else Forecast(costs)
        waiting = WaitingByLength if mixing is Mixing.EQUAL else Waiting
        super().__init__(model, waiting(self.forecast.costs), device)
        self.limits = limits
        self.mixing = mixing
        self.tries_hopeless = isinstance(costs, Unmeasured)
        self.suspects: set[int] = set()
        self.running: dict[int, _Running[P]] = {}
        self.ahead_at: float | None = None
        self.looked_ahead = False
        self.floors = Floors(self.waiting, mixing, limits.batch_rows)
        self._company = Company(self.waiting, mixing, limits.batch_rows)
        self.spaced_until = float("-inf")

    def __repr__(self) -> str:
        state = "draining" if self.draining else f"idle {max(0, self.idle)}"
        return f"<{self.model} {state}, running {len(self.running)}, {self.waiting!r}, pace {self.forecast.ratio:.2f}>"

    @property
    def costs(self) -> CostTable:
        """What is believed of batches before any correction."""
        return self.forecast.costs

    @property
    def wake_at(self) -> float:
        """When something must be decided about those who wait, unless something happens before; someone must wait."""
        at = self.latest_start(self.waiting.head)
        if self.waiting.is_mixed:
            at = min([self.latest_start(head) for head in self.waiting.heads()])
        if self.ahead_at is not None and not self.looked_ahead:
            at = min(at, self.ahead_at)
        if self.idle > 0 and self.instances > 1 and not self.device.is_shared:
            at = min(at, self._holds_until())
        return at

    @property
    def next_s(self) -> float:
        """Expected time of the next batch, if all who wait could join it; someone must wait."""
        return self.forecast.takes_s(min(self.waiting.rows, self.limits.batch_rows), self.waiting.head.length)

    @property
    def latest_safe_start(self) -> float:
        """The last moment for that batch to start without making the most urgent request late, the guard included."""
        rows = min(self.waiting.rows, self.limits.batch_rows)
        return self.waiting.head.deadline_at - self.forecast.at_most_s(rows, self.waiting.head.length)

    def is_ready(self, now: float) -> bool:
        return bool(self.waiting) and self.idle > 0 and not self.holds_back(now)

    def holds_back(self, now: float) -> bool:
        """Whether an idle instance had better wait for a larger batch: deliberate deferral.

        With several instances, a device of its own, a profile that rewards larger batches and an SLO of less than two of them, starting at once
        means small batches for ever. So starts are spaced by a batch's time over the number of instances, which is how full
        batches would follow each other. Nobody is made late by it, and at low load nobody meets it.
        """
        return self.instances > 1 and not self.device.is_shared and now < self._holds_until()

    def _holds_until(self) -> float:
        head = self.waiting.head
        if self.mixing is not Mixing.ANY or not self.running or self.waiting.rows >= self.forecast.knee(head.length):
            return float("-inf")
        if head.deadline_at - head.arrived_at >= 2 * self.forecast.takes_s(self.limits.batch_rows, head.length):
            return float("-inf")
        return min(self.spaced_until, self.latest_safe_start)

    def latest_start(self, request: InferRequest[P] | Demand) -> float:
        """The last moment at which this request, alone, can still end in time. Where costs had to be learnt, or were measured beside
        other work, it is tried for a part of its time whatever is believed: a bad moment must not lock requests out for ever."""
        latest = request.deadline_at - self.forecast.at_best_s(request.rows, request.length)
        if self.tries_hopeless and isinstance(request, InferRequest):
            return max(latest, request.arrived_at + TRY * (request.deadline_at - request.arrived_at))
        return latest

    def why_not(self, request: InferRequest[P] | Demand, now: float) -> WhyNot | None:
        """Admission by predicted completion: None when a newcomer is welcome, else why not, and in how many seconds it may be."""
        if self.latest_start(request) < now:
            return Refusal.DEADLINE, None
        if self.waiting.rows + request.rows > self.limits.queue_rows and self._is_full_for(request):
            return Refusal.QUEUE_FULL, self.retry_after(now)
        if self.idle > 0 and not self.waiting and (not self.device.is_shared or self.device.has_room(self)):
            return None  # an idle device always tries: it is how a pessimistic forecast is unlearnt
        late_s = self.predicted_end(request, now) - request.deadline_at
        return None if late_s <= 0 else (Refusal.DEADLINE, late_s)

    def _is_full_for(self, request: InferRequest[P] | Demand) -> bool:
        """Whether the queue is full without those that are less urgent: they must not keep it from others."""
        share = self.waiting.share_before(request.priority, float("inf"))
        return share * self.waiting.rows + request.rows > self.limits.queue_rows

    def retry_after(self, now: float) -> float:
        """Seconds until the work that waits now is done."""
        return self.free_at(now) - now + self.planned_s(self.waiting.work_s)

    @property
    def is_at_rest(self) -> bool:
        """Whether newcomers would meet nobody, neither here nor on the device."""
        return not (self.running or self.waiting or self.draining or self.device.is_shared) and self.instances > 0

    def start_together(self, requests: Sequence[InferRequest[P]], now: float, number: Callable[[], int]) -> Action[P] | None:
        """What comes of newcomers then, without a queue to be chosen from, where that is plain: one who is alone, or several that are
        all in time in one batch. None: it is not, and they had better queue."""
        if len(requests) == 1:
            refusal = self.refusal(requests[0], now)
            if refusal is not None:
                return refusal
        else:
            requests = sorted(requests, key=_deadline_first)
            if not self._fit_together(requests, now):
                return None
        batch = self._batch(requests, now, number(), Close.IDLE)
        self.start(batch)
        return Run(batch)

    def _fit_together(self, requests: Sequence[InferRequest[P]], now: float) -> bool:
        """Whether the queue would let all of them in, and choose them all: by deadline, which must be their order."""
        if not requests or self.mixing is not Mixing.ANY:
            return False
        head, rows = requests[0], sum([request.rows for request in requests])
        most, _ = most_rows(head, rows, self.limits, self.forecast)
        if rows > min(most, self.limits.batch_rows, self.limits.queue_rows) or not in_time(
            head, rows, head.length, self.forecast, now
        ):
            return False
        return all([request.priority == head.priority for request in requests])

    def start_next(self, now: float, number: Callable[[], int]) -> list[Action[P]]:
        actions = self.refuse_late(now, at_wakeup=False)
        if not self.waiting:
            return actions
        choice = self.choose(now)
        if choice.requests:
            actions.append(Run(self._form(choice, now, number())))
        else:
            assert choice.burden is not None, "no requests without a burden"
            actions.append(self.refuse(choice.burden, now))
        return actions

    def look_ahead(self, now: float, number: Callable[[], int]) -> list[Action[P]]:
        """Hand a batch over shortly before an instance is free, if it would not become better by waiting."""
        actions: list[Action[P]] = []
        while self.waiting and self.ahead_at is not None and self.ahead_at <= now and not self.device.is_wanted_beside(self):
            start_at = self.free_at(now)
            if self.latest_start(self.waiting.head) < start_at:
                break  # its turn to be refused comes when an instance is really free
            choice = self.choose(start_at)
            if choice.burden is not None and self.mixing is Mixing.ANY:  # newcomers are less urgent: it stays one
                actions.append(self.refuse(choice.burden, now))
                continue
            rows = sum(request.rows for request in choice.requests)
            if not is_complete(rows, choice.close, self.mixing, self.limits, len(self.waiting)):
                break
            actions.append(Run(self._form(choice, now, number())))
        self.looked_ahead = self.ahead_at is not None and self.ahead_at <= now
        return actions

    def _form(self, choice: Choice, now: float, number: int) -> Batch[P]:
        self.waiting.take(choice.requests)
        self._company.left(choice.requests)
        batch = self._batch(choice.requests, now, number, choice.close)
        self.start(batch)
        return batch

    def _batch(self, requests: Sequence[InferRequest[P]], now: float, number: int, close: Close) -> Batch[P]:
        rows = sum([request.rows for request in requests])
        length = max([request.length for request in requests])
        return Batch(number, self.model, tuple(requests), rows, length, now, close)

    def choose(self, start_at: float) -> Choice:
        """The requests for a batch that starts then, none of them when one should be given up; something must wait."""
        if self.suspects and self.waiting.head.id in self.suspects:
            return Choice((self.waiting.head,), Close.ALONE)
        window = WINDOW if self.mixing is Mixing.PADDED else 2 * self.limits.batch_rows
        owed = self.floors.owed()
        if owed and self._is_too_late_for_full(owed, start_at):
            return Choice((), Close.DEADLINE, owed[0])
        urgent = self.waiting.first(window + len(self.suspects))
        if owed:
            urgent = self.floors.put_first(owed, urgent)
        if self.suspects:
            urgent = [request for request in urgent if request.id not in self.suspects][:window]
        if self.mixing is not Mixing.ANY and self.waiting.is_mixed:
            urgent = of_one_priority(urgent)
        n_waiting = len(self.waiting) - len(self.suspects)
        alike = self._company.of(urgent, self.suspects, self.costs, self.device.is_shared)
        limits = self._limits_beside_others(urgent[0], start_at)
        another_at = self._another_at(start_at)
        choice = choose(urgent, n_waiting, self.mixing, limits, self.forecast, start_at, another_at, alike)
        if alike is not None and choice.requests and len(choice.requests) != len(alike):
            self._company.forget()  # the rest of a group that a deadline has cut would be a bad batch
        return choice

    def _is_too_late_for_full(self, owed: Sequence[InferRequest[P]], start_at: float) -> bool:
        """Whether the first would shrink the batch that is possible: who is owed rows is not owed the others' time. Where lengths matter the
        others are those who are owed them, too."""
        request, company = owed[0], self.waiting.rows
        if self.mixing is not Mixing.ANY:
            company = sum([one.rows for one in owed if one.length == request.length or self.mixing is Mixing.PADDED])
        rows = max(request.rows, min(company, self.limits.batch_rows))
        return request.deadline_at < start_at + self.forecast.at_most_s(rows, request.length)

    def _another_at(self, now: float) -> float:
        """When another instance than the one a batch is formed for is expected to be free."""
        if self.instances < 2:
            return float("inf")
        return now if self.idle > 1 else max(now, min(self.ends(), default=now))

    def _limits_beside_others(self, head: InferRequest[P], now: float) -> Limits:
        """On a shared device a batch may only be so large that it does not block the others for too long."""
        if not self.device.is_shared:
            return self.limits
        most_s = self.device.most_s(self, now)
        rows = self.limits.batch_rows
        while rows > head.rows and self.forecast.takes_s(rows, head.length) > most_s:
            rows -= 1
        return self.limits._replace(batch_rows=rows)

    def start(self, batch: Batch[P]) -> None:
        ids = {request.id for request in batch.requests}
        self.suspects -= ids
        self.floors.settle(batch)
        expected_at = self.free_at(batch.formed_at) + self._takes_s(batch)
        is_ahead = self.idle <= 0
        self.running[batch.id] = _Running(batch, ids, expected_at, is_ahead, began=not is_ahead)
        self.spaced_until = batch.formed_at + self._takes_s(batch) / max(1, self.instances)
        if self.device.is_shared:
            self.device.started(self, self._takes_s(batch))
        self._plan_ahead()

    def finish(self, batch: Batch[P], now: float) -> tuple[InferRequest[P], ...]:
        """Take a batch off the device; one that was formed ahead begins in its place, if there is one. Returns the requests
        that still want an answer."""
        assert batch.id in self.running, f"{batch!r} does not run"
        running = self.running.pop(batch.id)
        self._begin_next(now)
        wanted = batch.requests
        if len(running.wanted) < len(wanted):
            wanted = tuple(request for request in wanted if request.id in running.wanted)
        return wanted

    def learn(self, batch: Batch[P], began_at: float | None, now: float) -> None:
        """A batch that still runs has ended well. Of one that was formed ahead nothing is learnt unless it is known when an
        instance began it: never from a guess."""
        before = self.forecast.costs
        if not self.running[batch.id].is_ahead:
            self.forecast.learn(batch.rows, batch.length, now - batch.formed_at)
        elif began_at is not None:
            self.forecast.learn(batch.rows, batch.length, now - began_at)
        if self.forecast.costs is not before:
            self._costs_changed()

    def recost(self, limits: Limits, costs: CostTable) -> None:
        """Forget what was believed or learnt of batches: these costs are measured."""
        assert limits.batch_rows == self.limits.batch_rows, "what waits was accepted for batches of that many rows"
        self.limits, self.forecast = limits, Forecast(costs)
        self._costs_changed()

    def _costs_changed(self) -> None:
        self.waiting.recost(self.forecast.costs)
        self._company.forget()
        self._plan_ahead()

    def add_instance(self, now: float, instance: int = 0) -> None:
        """One more, no matter which; it takes a batch that was formed ahead, if there is one."""
        self.instances += 1
        self._begin_next(now)

    def remove_instance(self) -> None:
        """One less; its batch, if it had one, is finished next."""
        self.instances -= 1
        self._plan_ahead()

    def _begin_next(self, now: float) -> None:
        """Note that free instances have taken the batches that were formed ahead."""
        free = self.instances - sum([running.began for running in self.running.values()])
        for running in self.running.values():
            if not running.began and free > 0:
                running.began, free = True, free - 1
                running.expected_at = now + self._takes_s(running.batch)
        self._plan_ahead()

    def _plan_ahead(self) -> None:
        """Set `ahead_at`: from when on a batch may be formed although no instance is free; None: not at all."""
        self.looked_ahead = False
        if not self.instances or not -self.limits.ahead < self.idle <= 0:
            self.ahead_at = None
            return
        before = sorted(self.running.values(), key=_expected_at)[-self.idle]
        self.ahead_at = before.expected_at - LEAD * self._takes_s(before.batch)

    def cancel(self, request: InferRequest[P]) -> None:
        """Forget a request wherever it is; a batch that already runs goes on for its other requests."""
        if self.waiting.remove(request):
            self._company.left((request,))
            self.suspects.discard(request.id)
            return
        for running in self.running.values():
            running.wanted.discard(request.id)

    def retry_alone(self, requests: Iterable[InferRequest[P]]) -> None:
        """Queue the requests of a failed batch again; each will run without company, so that only the culprit fails."""
        for request in requests:
            self.suspects.add(request.id)
            self.waiting.add(request)

    def drop(self, request: InferRequest[P]) -> None:
        """Take a request out of the queue because it has its outcome."""
        self.waiting.remove(request)
        self._company.left((request,))
        self.suspects.discard(request.id)

    def predicted_end(self, request: InferRequest[P] | Demand, now: float) -> float:
        """When a newcomer's batch would end: the work before it, shared by all instances, then a batch of its own.

        What is before it is estimated: its share of the queue times the whole, which is exact at the end of the queue.
        """
        share = self.waiting.share_before(request.priority, request.deadline_at)
        rows, work_s = int(share * self.waiting.rows), share * self.waiting.work_s
        before_s, own_s = behind(rows, work_s, request, self.mixing, self.limits, self.forecast, self.instances)
        end_at = self.free_at(now) + before_s + own_s
        if self.device.is_shared:
            end_at += self.device.work_before_s(self, request.priority, request.deadline_at, now)
        return end_at

    def work_before_s(self, priority: int, deadline_at: float, now: float) -> float:
        return self.planned_s(self.waiting.work_s * self.waiting.share_before(priority, deadline_at))

    def planned_s(self, work_s: float) -> float:
        """Wall time for so much of one instance's work, spread over all of them."""
        return self.forecast.ratio * work_s / max(1, self.instances)

    def _takes_s(self, batch: Batch[P]) -> float:
        return self.forecast.takes_s(batch.rows, batch.length)


_deadline_first = attrgetter("deadline_at", "id")


def _expected_at(running: _Running[P]) -> float:
    return running.expected_at
