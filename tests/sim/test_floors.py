"""A lower priority has its tenth of the rows while more urgent requests never end, whoever may share a batch with whom."""

from __future__ import annotations

import pytest

from server.core.device import FLOOR
from server.core.events import Event, InstanceUp, Open, Run, StepDone, Submit
from server.core.invariants import Onlooker
from server.core.scheduler import Scheduler
from server.core.types import Batch, InferRequest, Limits, Mixing, ModelKey
from tests.server.core.build import MS, costs

KEY = ModelKey("m", 1)
ROWS, N_BATCHES = 16, 300


def shares_of_lower(mixing: Mixing, n_waiting: int, rows: int, n_classes: int = 2) -> list[float]:
    """What each lower priority got of the rows of 300 batches, while so many requests of each wait at any time, and enough urgent ones."""
    scheduler: Scheduler[str] = Scheduler()
    onlooker = Onlooker(scheduler)
    got, number, now = [0] * n_classes, 0, 0.0
    running: list[Batch[str]] = []
    lengths = () if mixing is Mixing.ANY else (8, 64)

    def handle(event: Event[str]) -> None:
        actions = scheduler.handle(event, now)
        onlooker.see(event, actions, now)
        running.extend(action.batch for action in actions if isinstance(action, Run))

    def asked(priority: int, n: int, rows: int) -> None:
        nonlocal number
        requests = []
        for _ in range(n):
            number += 1
            length = 8 + number % 3 if lengths else 0
            requests.append(InferRequest(number, KEY, rows, length, now, now + 1e6, "", priority))
        handle(Submit(KEY, tuple(requests)))

    handle(Open(KEY, Limits(ROWS, 10**6), mixing, costs(max_rows=ROWS, lengths=lengths or (0,))))
    handle(InstanceUp(KEY))
    asked(0, 4 * ROWS, 1)
    for priority in range(1, n_classes):
        asked(priority, n_waiting, rows)
    for _ in range(N_BATCHES):
        batch = running.pop(0)
        for request in batch.requests:
            got[request.priority] += request.rows
        for priority in range(n_classes):
            ended = sum(request.priority == priority for request in batch.requests)
            if ended:
                asked(priority, ended, rows if priority else 1)
        now += 20 * MS
        handle(StepDone(batch))
    return [one / sum(got) for one in got[1:]]


@pytest.mark.parametrize("mixing", Mixing)
@pytest.mark.parametrize(("n_waiting", "rows"), [(8, 1), (40, 1), (40, 3), (1, 16), (3, 7)])
def test_a_lower_priority_has_its_floor(mixing: Mixing, n_waiting: int, rows: int) -> None:
    """A little less where the queue runs empty in between: who does not wait is owed nothing."""
    (got,) = shares_of_lower(mixing, n_waiting, rows)
    assert 0.7 * FLOOR <= got <= 1.1 * FLOOR


@pytest.mark.parametrize("mixing", Mixing)
def test_several_have_theirs(mixing: Mixing) -> None:
    for got in shares_of_lower(mixing, 12, 2, n_classes=4):
        assert 0.7 * FLOOR <= got <= 1.1 * FLOOR
