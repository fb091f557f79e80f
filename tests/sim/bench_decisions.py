"""What a decision costs in CPU time: python -m tests.sim.bench_decisions. Not a test: times on a shared machine prove nothing by
themselves; tests/sim/test_decisions.py counts the work instead. The last figures are in docs/decisions/0015."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Sequence

from server.core.costs import CostTable
from server.core.events import Action, InstanceUp, Open, Run, StepDone, Submit
from server.core.scheduler import Scheduler
from server.core.types import InferRequest, Limits, Mixing, ModelKey
from server.simulation.laws import linear_profile

KEY = ModelKey("m", 1)
ROUNDS = 7
Request = InferRequest[None]


def no_length(rnd: random.Random) -> int:
    return 0


def sentence(rnd: random.Random) -> int:
    return max(3, min(512, int(rnd.lognormvariate(4.094, 0.9))))


def measure(costs: CostTable, mixing: Mixing, length_of: Callable[[random.Random], int], n_queued: int, n: int) -> float:
    """Microseconds of CPU per request: submitted by as many as a batch takes, while so many wait. Best round of several."""
    best = float("inf")
    for _ in range(ROUNDS):
        rnd = random.Random(1)
        requests = [InferRequest(i, KEY, 1, length_of(rnd), 0.0, 1e6 + i * 1e-4, None) for i in range(n_queued + n)]
        scheduler: Scheduler[None] = Scheduler()
        scheduler.handle(Open(KEY, Limits(costs.max_rows, 10**6), mixing, costs), 0.0)
        first = InferRequest(-1, KEY, 1, 0, 0.0, 1e6, None)
        scheduler.handle(InstanceUp(KEY), 0.0)
        actions = scheduler.handle(Submit(KEY, (first, *requests[:n_queued])), 0.0)
        best = min(best, _play(scheduler, requests[n_queued:], actions, costs))
    return best


def _play(scheduler: Scheduler[None], requests: Sequence[Request], actions: list[Action[None]], costs: CostTable) -> float:
    now, start = 0.0, 0
    gc.collect()
    began = time.process_time()
    while start < len(requests):
        batch = next(action.batch for action in actions if isinstance(action, Run))
        now += costs.batch_s(batch.rows, batch.length)
        scheduler.handle(Submit(KEY, tuple(requests[start : start + batch.rows])), now)
        scheduler.next_wakeup()
        start += batch.rows
        actions = scheduler.handle(StepDone(batch), now)
        scheduler.next_wakeup()
    return (time.process_time() - began) / start * 1e6


def main() -> None:
    """Print a line per case."""
    plain = CostTable(linear_profile(1e-3, 0.004), 32)
    tokens = CostTable(linear_profile(1e-5, 0.002, lengths=(8, 16, 32, 64, 128, 256, 512)), 32)
    for name, costs, mixing, length_of in (
        ("all alike", plain, Mixing.ANY, no_length), ("padded", tokens, Mixing.PADDED, sentence), ("equal", tokens, Mixing.EQUAL, sentence)
    ):  # fmt: skip
        for n_queued in (30, 1_000, 10_000):
            print(f"{name:10} {n_queued:6} queued  {measure(costs, mixing, length_of, n_queued, 6_000):6.2f} us per request")


if __name__ == "__main__":
    main()
