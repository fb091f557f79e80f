from __future__ import annotations

from collections.abc import Mapping, Sequence

from loadtests.peers.peer import Knob, Tuning
from loadtests.peers.sweep import sweep, values

START = Tuning(64, 1.0, workers=1)
ALLOWED: Mapping[Knob, Sequence[float]] = {
    Knob.QUEUE: (10, 20, 30), Knob.TIMEOUT: (15.0, 25.0), Knob.BATCH: (1, 8, 64), Knob.WAIT: (0.0, 1.0, 2.0), Knob.WORKERS: (1, 2),
}  # fmt: skip


def test_each_knob_is_turned_at_the_best_of_the_others() -> None:
    found = sweep(
        START, list(Knob), ALLOWED, lambda one: 100.0 - abs(one.queue - 20) - abs(one.max_batch - 8) - 5 * one.wait_ms
    )
    assert (found.best.queue, found.best.max_batch, found.best.wait_ms, found.best.timeout_ms) == (20, 8, 0.0, 0.0)
    assert found.tried[found.best] == max(found.tried.values())
    assert next(iter(found.tried)) == START


def test_the_first_knob_is_turned_again_at_the_end() -> None:
    """With small batches a shorter queue is best, which shows only once the batch is small."""
    found = sweep(
        START,
        [Knob.QUEUE, Knob.BATCH],
        ALLOWED,
        lambda one: 200.0 - 5 * abs(one.queue - 10) if one.max_batch == 8 else 80.0 - abs(one.queue - 30),
    )
    assert (found.best.queue, found.best.max_batch) == (10, 8)


def test_what_is_hardly_better_is_left_as_it_comes() -> None:
    assert sweep(START, [Knob.QUEUE], ALLOWED, lambda one: 101.0 if one.queue else 100.0).best == START


def test_a_lucky_figure_is_looked_at_again() -> None:
    seen: list[Tuning] = []

    def measure(one: Tuning) -> float:
        lucky = one.queue == 20 and one not in seen
        seen.append(one)
        return 500.0 if lucky else 100.0

    found = sweep(START, [Knob.QUEUE], ALLOWED, measure)
    assert found.best == START
    assert seen.count(Tuning(64, 1.0, queue=20)) == 2


def test_nothing_is_measured_twice_without_need_and_no_wait_is_tried_without_batches() -> None:
    seen: list[Tuning] = []

    def measure(one: Tuning) -> float:
        seen.append(one)
        return 1.0

    sweep(Tuning(), [Knob.WAIT, Knob.WORKERS], ALLOWED, measure)
    assert seen == [Tuning(), Tuning(workers=2)]


def test_values_follow_what_the_server_can_do_in_the_time() -> None:
    found = values(1000.0, 0.05, batches=True)
    assert found[Knob.QUEUE] == [5, 12, 25, 38, 50]
    assert found[Knob.TIMEOUT] == [15.0, 25.0, 35.0, 45.0]
    slow = values(3.0, 0.05, batches=False)
    assert slow[Knob.QUEUE] == [1]
    assert not slow[Knob.BATCH]
    assert not slow[Knob.WAIT]
