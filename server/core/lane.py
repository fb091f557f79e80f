"""The scheduler's state for one open model: who waits, what runs, how the device keeps to its profile."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic

from server.core.costs import CostTable
from server.core.events import Refuse
from server.core.forecast import Forecast
from server.core.policy import WINDOW, Choice, choose
from server.core.types import Batch, Close, InferRequest, Limits, Mixing, ModelKey, P, Refusal
from server.core.waiting import Waiting

LEAD = 0.25
"""The next batch may be formed when this share of the running one's time is left: early enough for a device that is faster
than expected, late enough that few urgent requests come too late for it."""


@dataclass(slots=True)
class _Running(Generic[P]):
    """A batch in flight and the ids of its requests that still want an answer. `is_ahead`: formed before an instance was
    free; `began`: an instance has taken it up."""

    batch: Batch[P]
    wanted: set[int]
    expected_at: float
    is_ahead: bool
    began: bool


class Lane(Generic[P]):
    """One model's queue and instances. The Scheduler mutates it; everybody else reads."""

    def __init__(self, model: ModelKey, limits: Limits, mixing: Mixing, costs: CostTable) -> None:
        self.model = model
        self.limits = limits
        self.mixing = mixing
        self.costs = costs
        self.waiting: Waiting[P] = Waiting(costs)
        self.suspects: set[int] = set()
        self.running: dict[int, _Running[P]] = {}
        self.instances = 0
        self.ahead_at: float | None = None
        self.looked_ahead = False
        self.draining = False
        self.forecast = Forecast(costs)

    def __repr__(self) -> str:
        state = "draining" if self.draining else f"idle {max(0, self.idle)}"
        return f"<{self.model} {state}, running {len(self.running)}, {self.waiting!r}, pace {self.forecast.ratio:.2f}>"

    @property
    def idle(self) -> int:
        """Instances without a batch; below zero: so many batches are formed ahead."""
        return self.instances - len(self.running)

    @property
    def wake_at(self) -> float:
        """When something must be decided about those who wait, unless something happens before; someone must wait."""
        hopeless_at = self.latest_start(self.waiting.head)
        if self.ahead_at is None or self.looked_ahead:
            return hopeless_at
        return min(hopeless_at, self.ahead_at)

    def latest_start(self, request: InferRequest[P]) -> float:
        """The last moment at which this request, alone, can still end in time."""
        return request.deadline_at - self.forecast.at_best_s(request.rows, request.length)

    def refusal(self, request: InferRequest[P], now: float) -> Refuse[P] | None:
        """The refusal that a newcomer deserves, or None: admission by predicted completion."""
        if self.latest_start(request) < now:
            return Refuse(request, Refusal.DEADLINE, None)
        if self.waiting.rows + request.rows > self.limits.queue_rows:
            return Refuse(request, Refusal.QUEUE_FULL, self.retry_after(now))
        if self.idle > 0 and not self.waiting:
            return None  # an idle device always tries: it is how a pessimistic forecast is unlearnt
        late_s = self._predicted_end(request, now) - request.deadline_at
        return None if late_s <= 0 else Refuse(request, Refusal.DEADLINE, late_s)

    def retry_after(self, now: float) -> float:
        """Seconds until the work that waits now is done."""
        return self.free_at(now) - now + self._planned(self.waiting.work_s)

    def free_at(self, now: float) -> float:
        """When an instance is expected to be free for the next batch."""
        if self.idle > 0 or not self.instances:
            return now
        ends = sorted([running.expected_at for running in self.running.values()])
        return max(now, ends[-self.idle])

    def choose(self, start_at: float) -> Choice:
        """The requests for a batch that starts then, none of them when the head should be given up; something must wait."""
        if self.suspects and self.waiting.head.id in self.suspects:
            return Choice((self.waiting.head,), Close.ALONE)
        window = WINDOW if self.mixing is not Mixing.ANY else 2 * self.limits.batch_rows
        urgent = self.waiting.first(window + len(self.suspects))
        if self.suspects:
            urgent = [request for request in urgent if request.id not in self.suspects][:window]
        n_waiting = len(self.waiting) - len(self.suspects)
        return choose(urgent, n_waiting, self.mixing, self.limits, self.forecast, start_at)

    def start(self, batch: Batch[P]) -> None:
        ids = {request.id for request in batch.requests}
        self.suspects -= ids
        expected_at = self.free_at(batch.formed_at) + self._takes_s(batch)
        is_ahead = self.idle <= 0
        self.running[batch.id] = _Running(batch, ids, expected_at, is_ahead, began=not is_ahead)
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
        if not self.running[batch.id].is_ahead:
            self.forecast.learn(batch.rows, batch.length, now - batch.formed_at)
        elif began_at is not None:
            self.forecast.learn(batch.rows, batch.length, now - began_at)

    def add_instance(self, now: float) -> None:
        """One more; it takes a batch that was formed ahead, if there is one."""
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
        self.suspects.discard(request.id)

    def _predicted_end(self, request: InferRequest[P], now: float) -> float:
        """When a newcomer's batch would end: the work before it, shared by all instances, then a batch of its own.

        What is before it is estimated: its share of the queue times the whole, which is exact at the end of the queue. Its
        batch holds requests already counted as work before it, so only what is missing is added.
        """
        share = self.waiting.share_before(request.deadline_at)
        before_s = share * self.waiting.work_s
        own_s = self.forecast.takes_s(request.rows, request.length)
        if self.mixing is Mixing.ANY:
            rows = min(int(share * self.waiting.rows) + request.rows, self.limits.batch_rows)
            own_s = max(own_s, self.forecast.takes_s(rows, request.length))
            before_s = max(0.0, before_s - (rows - request.rows) * self.costs.row_s(request.length))
        return self.free_at(now) + self._planned(before_s) + own_s

    def _planned(self, work_s: float) -> float:
        """Wall time for so much of one instance's work, spread over all of them."""
        return self.forecast.ratio * work_s / max(1, self.instances)

    def _takes_s(self, batch: Batch[P]) -> float:
        return self.forecast.takes_s(batch.rows, batch.length)


def _expected_at(running: _Running[P]) -> float:
    return running.expected_at
