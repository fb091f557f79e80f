"""What the flight recorder costs: python -m tests.measure.recorder. CPU time, the least of several rounds."""

from __future__ import annotations

from collections.abc import Callable
from time import process_time

import orjson

from server.core.events import Action, Answer, Event, InstanceUp, Open, Run, StepDone, Submit
from server.core.scheduler import Scheduler
from server.core.types import Batch, Close, InferRequest, Limits, Mixing, ModelKey
from server.recording.ring import Ring
from server.recording.state import save
from server.simulation.laws import linear_costs

MODEL = ModelKey("digits", 1, 3)
N_REQUESTS = 20_000
ROUNDS = 7

Noted = tuple[Event[None], list[Action[None]], float]


def events(per_batch: int) -> list[Noted]:
    """Requests that come and are answered in batches of so many: two events for each batch."""
    made: list[Noted] = []
    for number in range(N_REQUESTS // per_batch):
        now = 12345.678901 + number * 0.00123
        first = 10_000_000 + number * per_batch
        requests = tuple(
            InferRequest(first + place, MODEL, 1, 0, now - 1.23e-4 * place, now + 0.0495 - 1.23e-4 * place, None)
            for place in range(per_batch)
        )
        batch = Batch(100_000 + number, MODEL, requests, per_batch, 0, now, Close.IDLE)
        made.append((Submit(MODEL, requests), [Run(batch)], now))
        made.append((StepDone(batch, now + 1e-5), [Answer(batch, requests)], now + 3.1e-4))
    return made


def least_s(work: Callable[[], object]) -> float:
    """CPU seconds of the fastest round."""
    taken = []
    for _ in range(ROUNDS):
        began = process_time()
        work()
        taken.append(process_time() - began)
    return min(taken)


def note_all(noted: list[Noted]) -> Ring:
    ring = Ring(Scheduler())
    for one in noted:
        ring.note(*one)
    return ring


def crowded(n_waiting: int) -> Scheduler[None]:
    """One instance, which is busy, and so many requests behind it."""
    scheduler: Scheduler[None] = Scheduler()
    scheduler.handle(Open(MODEL, Limits(32, 10**6), Mixing.ANY, linear_costs(1e-6, 2e-4, 32)), 0.0)
    scheduler.handle(InstanceUp(MODEL), 0.0)
    requests = [InferRequest(number, MODEL, 1, 0, number * 1e-6, 100.0, None) for number in range(n_waiting + 32)]
    scheduler.handle(Submit(MODEL, tuple(requests)), 0.0)
    assert len(scheduler.lane(MODEL).waiting) == n_waiting
    return scheduler


def save_as_text(scheduler: Scheduler[None]) -> bytes:
    state = save(scheduler)
    return orjson.dumps((state.requests, state.tree))


def main() -> None:
    for per_batch in (1, 8, 32, 64):
        noted = events(per_batch)
        cost_s, n_bytes = least_s(lambda noted=noted: note_all(noted)), note_all(noted).n_bytes  # type: ignore[misc]
        print(f"{per_batch:>6} in a batch: {cost_s / N_REQUESTS * 1e6:.2f} us, {n_bytes / N_REQUESTS:.0f} bytes per request")
    for n_waiting in (0, 1_000, 10_000):
        scheduler = crowded(n_waiting)
        cost_s = least_s(lambda scheduler=scheduler: save_as_text(scheduler))  # type: ignore[misc]
        print(f"{n_waiting:>6} waiting:    {cost_s * 1e3:.2f} ms, {len(save_as_text(scheduler)):,} bytes for a state")


if __name__ == "__main__":
    main()
