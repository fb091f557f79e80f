"""What a decision costs in CPU time: python -m tests.sim.bench_decisions. Not a test: times on a shared machine prove nothing by
themselves; tests/sim/test_decisions.py counts the work instead. The last figures are in docs/decisions/0015 and 0020."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Sequence

from server.core.costs import CostTable, LinearSteps
from server.core.events import Action, InstanceUp, Iterate, IterationDone, Open, OpenResident, Run, StepDone, Submit
from server.core.scheduler import Scheduler
from server.core.types import GenerateRequest, InferRequest, Iteration, Limits, Mixing, ModelKey, ResidentLimits
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


def measure_steps(n_slots: int, n_queued: int, new_tokens: int, n_steps: int) -> tuple[float, float]:
    """Microseconds of CPU per step, and per request: each slot is taken again as it becomes free, and for each that ends one more is
    submitted. Best round of several."""
    best = (float("inf"), float("inf"))
    for _ in range(ROUNDS):
        rnd = random.Random(1)
        limits = ResidentLimits(n_slots, 10**9, 4096, 4096, 10**6, 0.1)
        scheduler: Scheduler[int] = Scheduler()
        scheduler.handle(OpenResident(KEY, limits, LinearSteps(0.005, 1e-4, 1e-8, 1e-3, 1e-5)), 0.0)
        scheduler.handle(InstanceUp(KEY), 0.0)
        requests = [
            GenerateRequest(number, KEY, 1, 32, 0.0, 1e6 + number, rnd.randint(1, new_tokens), new_tokens=new_tokens)
            for number in range(n_queued + n_steps * n_slots)
        ]
        actions = scheduler.handle(Submit(KEY, tuple(requests[:n_queued])), 0.0)
        n_left = {request.id: request.payload for request in requests}
        _, actions, n_used = _play_steps(
            scheduler, requests, n_left, actions, n_queued, 4 * new_tokens
        )  # until lives are mixed
        gc.collect()
        took_s, _, n_after = _play_steps(scheduler, requests, n_left, actions, n_used, n_steps)
        best = min(best, (took_s / n_steps * 1e6, took_s / max(1, n_after - n_used) * 1e6))
    return best


def _play_steps(
    scheduler: Scheduler[int], requests: Sequence[GenerateRequest[int]], n_left: dict[int, int], actions: list[Action[int]],
    n_used: int, n_steps: int,
) -> tuple[float, list[Action[int]], int]:  # fmt: skip
    """CPU seconds of the scheduler alone, the last actions, and how many requests were submitted."""
    took_s = 0.0
    for _ in range(n_steps):
        step: Iteration[int] = next(action.iteration for action in actions if isinstance(action, Iterate))
        now = step.formed_at + 0.01
        ended = []
        for request in [*step.decode, *[chunk.request for chunk in step.chunks if chunk.is_last]]:
            n_left[request.id] -= 1
            if not n_left[request.id]:
                ended.append(request)
        newcomers = tuple(requests[n_used : n_used + len(ended)])
        n_used += len(ended)
        event = IterationDone(step, tuple(ended), step.formed_at)
        began = time.process_time()
        if newcomers:
            scheduler.handle(Submit(KEY, newcomers), now)
            scheduler.next_wakeup()
        actions = scheduler.handle(event, now)
        scheduler.next_wakeup()
        took_s += time.process_time() - began
    return took_s, actions, n_used


def main() -> None:
    """Print a line per case."""
    plain = CostTable(linear_profile(1e-3, 0.004), 32)
    tokens = CostTable(linear_profile(1e-5, 0.002, lengths=(8, 16, 32, 64, 128, 256, 512)), 32)
    for name, costs, mixing, length_of in (
        ("all alike", plain, Mixing.ANY, no_length), ("padded", tokens, Mixing.PADDED, sentence), ("equal", tokens, Mixing.EQUAL, sentence)
    ):  # fmt: skip
        for n_queued in (30, 1_000, 10_000):
            print(f"{name:10} {n_queued:6} queued  {measure(costs, mixing, length_of, n_queued, 6_000):6.2f} us per request")
    for n_slots, n_queued, new_tokens in ((8, 1_000, 64), (32, 30, 64), (32, 1_000, 64), (32, 10_000, 64), (32, 1_000, 8)):
        step_us, request_us = measure_steps(n_slots, n_queued, new_tokens, 500)
        case = f"{n_slots:3} slots, up to {new_tokens:3} tokens, {n_queued:6} queued"
        print(f"residents  {case}  {step_us:6.2f} us per step, {request_us:6.2f} per request")


if __name__ == "__main__":
    main()
