"""One model, Poisson clients and a device with an exact law, around a Scheduler in virtual time. No accidents: see world.py."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from server.core.costs import CostTable
from server.core.events import Action, Answer, Event, InstanceUp, Open, Refuse, Run, StepDone, Submit, Wake
from server.core.invariants import Onlooker
from server.core.scheduler import Scheduler
from server.core.types import Batch, InferRequest, Limits, Mixing, ModelKey
from tests.sim.device import Device

Request = InferRequest[None]
KEY = ModelKey("m", 1)


def poisson(rate: float, n_requests: int, slo_s: float, lengths: Sequence[int] = (0,), seed: int = 1) -> list[Request]:
    """Requests of one row at Poisson times, lengths drawn evenly from `lengths`."""
    rnd = random.Random(seed)
    at, requests = 0.0, []
    for number in range(n_requests):
        at += rnd.expovariate(rate)
        requests.append(InferRequest(number, KEY, 1, rnd.choice(lengths), at, at + slo_s, None))
    return requests


@dataclass
class Tally:
    """What came of the requests. `latencies` of the answered ones, in order of answer."""

    latencies: list[float] = field(default_factory=list)
    batches: list[Batch[None]] = field(default_factory=list)
    n_late: int = 0
    n_refused: int = 0
    ended_at: float = 0.0

    @property
    def rate(self) -> float:
        """Answers per second, up to the last one."""
        return len(self.latencies) / self.ended_at

    @property
    def goodput(self) -> float:
        """The same for the answers that came in time."""
        return (len(self.latencies) - self.n_late) / self.ended_at

    def answered(self, requests: Sequence[Request], now: float) -> None:
        self.latencies += [now - request.arrived_at for request in requests]
        self.n_late += sum(now > request.deadline_at + 1e-9 for request in requests)
        self.ended_at = now


def serve(
    requests: Sequence[Request],
    costs: CostTable,
    mixing: Mixing = Mixing.ANY,
    instances: int = 1,
    queue_rows: int = 10**6,
    truth: Callable[[float, float], float] | None = None,
    ahead: int = 0,
    hand_over_s: float = 0.0,
) -> Tally:
    """Play the requests through a Scheduler under the eye of the Onlooker; every answer is delivered at once.

    `truth(predicted_s, now)`: what a batch really takes (default: exactly what is predicted). `hand_over_s`: how long
    an idle instance takes to begin a batch; one that was formed ahead it begins at once.
    """
    station = _Station(requests, costs, truth, hand_over_s)
    station.feed(Open(KEY, Limits(costs.max_rows, queue_rows, ahead), mixing, costs))
    for _ in range(instances):
        station.feed(InstanceUp(KEY))
    return station.run()


class _Station:
    """The agenda, the device and the books of one run."""

    def __init__(
        self, requests: Sequence[Request], costs: CostTable, truth: Callable[[float, float], float] | None, hand_over_s: float
    ) -> None:
        self._costs = costs
        self._truth = truth
        self._hand_over_s = hand_over_s
        self._scheduler: Scheduler[None] = Scheduler()
        self._onlooker: Onlooker[None] = Onlooker(self._scheduler)
        self._device: Device[None] = Device(self._begin)
        self._tally = Tally()
        self._now = 0.0
        self._order = iter(range(10**9))
        self._agenda: list[tuple[float, int, Event[None]]] = []
        for request in requests:
            self._at(request.arrived_at, Submit(KEY, (request,)))

    def run(self) -> Tally:
        while self._agenda:
            wake_at = self._scheduler.next_wakeup()
            if wake_at is not None and wake_at < self._agenda[0][0]:
                self._now = wake_at
                self.feed(Wake())
            else:
                self._now, _, event = heapq.heappop(self._agenda)
                self.feed(event)
        self._onlooker.end()
        return self._tally

    def feed(self, event: Event[None]) -> None:
        if isinstance(event, InstanceUp | StepDone):
            self._device.free()
        actions = self._scheduler.handle(event, self._now)
        self._onlooker.see(event, actions, self._now)
        for action in actions:
            self._carry_out(action)

    def _at(self, time: float, event: Event[None]) -> None:
        heapq.heappush(self._agenda, (time, next(self._order), event))

    def _begin(self, batch: Batch[None]) -> None:
        predicted_s = self._costs.batch_s(batch.rows, batch.length)
        takes_s = self._truth(predicted_s, self._now) if self._truth else predicted_s
        late_s = self._hand_over_s if batch.formed_at == self._now else 0.0
        self._at(self._now + late_s + takes_s, StepDone(batch))

    def _carry_out(self, action: Action[None]) -> None:
        match action:
            case Run(batch):
                self._tally.batches.append(batch)
                self._device.give(batch)
            case Answer(_, answered):
                self._tally.answered(answered, self._now)
            case Refuse():
                self._tally.n_refused += 1


def serve_fifo(
    requests: Sequence[Request], costs: CostTable, batch_rows: int, wait_full: bool = False, queue: int = 10**9
) -> Tally:
    """The naive server: an unbounded first-in first-out queue, batches padded to the longest, deadlines unknown.

    `wait_full`: start only full batches, the most that a queue without timer can be batched.
    """
    tally = Tally()
    now, first = 0.0, 0
    while first < len(requests):
        last = min(first + batch_rows, len(requests)) - 1
        now = max(now, requests[last if wait_full else first].arrived_at)
        batch = [r for r in requests[first : first + batch_rows] if r.arrived_at <= now]
        now += costs.batch_s(len(batch), max(r.length for r in batch))
        tally.answered(batch, now)
        first += len(batch)
    return tally
