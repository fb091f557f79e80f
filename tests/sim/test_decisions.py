"""Target 7: what a decision costs does not grow with the queue. Counted, not timed; for times see bench_decisions.py."""

from __future__ import annotations

import random
from typing import Any, ClassVar

import pytest

from server.core.costs import CostTable
from server.core.events import InstanceUp, Open, Run, StepDone, Submit
from server.core.scheduler import Scheduler
from server.core.types import InferRequest, Limits, Mixing
from server.simulation.clients import MODEL, log_normal
from server.simulation.laws import linear_costs

PLAIN = linear_costs(0.001, 0.004, 32)
TOKENS = linear_costs(1e-5, 0.002, 32, lengths=(8, 16, 32, 64, 128, 256, 512))
LENGTHS = log_normal(60, 0.9, 512)


class Counted(InferRequest[None]):
    """A request that counts how often any of its kind is looked at."""

    __slots__ = ()
    looks: ClassVar[list[int]] = [0]

    def __getattribute__(self, name: str) -> Any:
        Counted.looks[0] += 1
        return super().__getattribute__(name)


def looks_per_request(costs: CostTable, mixing: Mixing, n_queued: int, n_served: int = 3_000) -> float:
    """How often requests are looked at for each that is submitted, admitted, batched and answered while so many wait."""
    rnd = random.Random(1)
    make = type.__call__
    requests = [
        make(Counted, number, MODEL, 1, int(LENGTHS(rnd)) if mixing is not Mixing.ANY else 0, 0.0, 1e6 + number, None)
        for number in range(n_queued + n_served)
    ]
    scheduler: Scheduler[None] = Scheduler()
    scheduler.handle(Open(MODEL, Limits(32, 10**6), mixing, costs), 0.0)
    scheduler.handle(InstanceUp(MODEL), 0.0)
    actions = scheduler.handle(Submit(MODEL, tuple(requests[:n_queued])), 0.0)
    before, now, start = Counted.looks[0], 0.0, n_queued
    while start < len(requests):
        batch = next(action.batch for action in actions if isinstance(action, Run))
        now += costs.batch_s(batch.rows, batch.length)
        scheduler.handle(Submit(MODEL, tuple(requests[start : start + batch.rows])), now)
        start += batch.rows
        actions = scheduler.handle(StepDone(batch), now)
        scheduler.next_wakeup()
    return (Counted.looks[0] - before) / (start - n_queued)


@pytest.mark.parametrize(
    ("costs", "mixing", "most"), [(PLAIN, Mixing.ANY, 40), (TOKENS, Mixing.PADDED, 50), (TOKENS, Mixing.EQUAL, 50)]
)
def test_7_a_decision_looks_at_few_requests_however_many_wait(costs: CostTable, mixing: Mixing, most: float) -> None:
    with_1000, with_10000 = (looks_per_request(costs, mixing, n) for n in (1_000, 10_000))
    assert with_10000 <= most
    assert with_10000 == pytest.approx(with_1000, rel=0.1)
