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
) -> Tally:
    """Play the requests through a Scheduler under the eye of the Onlooker; every answer is delivered at once.

    `truth(predicted_s, now)`: what a batch really takes (default: exactly what is predicted).
    """
    scheduler: Scheduler[None] = Scheduler()
    onlooker: Onlooker[None] = Onlooker(scheduler)
    tally = Tally()
    order = iter(range(10**9))
    agenda: list[tuple[float, int, Event[None]]] = [(r.arrived_at, next(order), Submit(KEY, (r,))) for r in requests]
    heapq.heapify(agenda)

    def carry_out(action: Action[None], now: float) -> None:
        match action:
            case Run(batch):
                predicted_s = costs.batch_s(batch.rows, batch.length)
                end_at = now + (truth(predicted_s, now) if truth else predicted_s)
                heapq.heappush(agenda, (end_at, next(order), StepDone(batch)))
                tally.batches.append(batch)
            case Answer(_, answered):
                tally.answered(answered, now)
            case Refuse():
                tally.n_refused += 1

    def feed(event: Event[None], now: float) -> None:
        actions = scheduler.handle(event, now)
        onlooker.see(event, actions, now)
        for action in actions:
            carry_out(action, now)

    feed(Open(KEY, Limits(costs.max_rows, queue_rows), mixing, costs), 0.0)
    for number in range(instances):
        feed(InstanceUp(KEY, number), 0.0)
    while agenda:
        wake_at = scheduler.next_wakeup()
        if wake_at is not None and wake_at < agenda[0][0]:
            feed(Wake(), wake_at)
        else:
            now, _, event = heapq.heappop(agenda)
            feed(event, now)
    onlooker.end()
    return tally


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
