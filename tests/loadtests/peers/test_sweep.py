from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from loadtests.errors import ChildFailed
from loadtests.peers.peer import Knob, Tuning
from loadtests.peers.sweep import Tried, sweep, values

START = Tuning(64, 1.0, workers=1)
ALLOWED: Mapping[Knob, Sequence[float]] = {
    Knob.QUEUE: (10, 20, 30), Knob.TIMEOUT: (15.0, 25.0), Knob.BATCH: (1, 8, 64), Knob.WAIT: (0.0, 1.0, 2.0), Knob.WORKERS: (1, 2),
}  # fmt: skip


def test_each_knob_is_turned_at_the_best_of_the_others() -> None:
    found = sweep(
        START, list(Knob), ALLOWED, lambda one: 100.0 - abs(one.queue - 20) - abs(one.max_batch - 8) - 5 * one.wait_ms
    )
    assert (found.best.queue, found.best.max_batch, found.best.wait_ms, found.best.timeout_ms) == (20, 8, 0.0, 0.0)
    assert found.goodput == max(one.counts for one in found.tried.values())
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


def test_luck_is_found_out_good_and_bad() -> None:
    """The queue of 20 is lucky when it is first seen, that of 30 unlucky."""
    seen: list[Tuning] = []
    figures = {10: 130.0, 20: 100.0, 30: 200.0}

    def measure(one: Tuning) -> float:
        seen.append(one)
        luck = {20: 500.0, 30: 120.0}.get(one.queue) if seen.count(one) == 1 else None
        return luck or figures.get(one.queue, 100.0)

    found = sweep(START, [Knob.QUEUE], ALLOWED, measure)
    assert found.best.queue == 30
    assert found.tried[replace(START, queue=20)].goodput == [500.0, 100.0, 100.0]


def test_what_does_not_run_has_its_reason_and_is_not_tried_again() -> None:
    def measure(one: Tuning) -> float:
        if one.queue == 20:
            raise ChildFailed("out of memory")
        return 10.0 * (1 + one.queue)

    found = sweep(START, [Knob.QUEUE], ALLOWED, measure)
    assert found.best.queue == 30
    assert found.tried[replace(START, queue=20)] == Tried([], "out of memory")


def test_no_wait_is_tried_without_batches_and_the_best_few_are_measured_again_in_turns() -> None:
    seen: list[Tuning] = []

    def measure(one: Tuning) -> float:
        seen.append(one)
        return 1.0

    sweep(Tuning(), [Knob.WAIT, Knob.WORKERS], ALLOWED, measure)
    assert seen == 3 * [Tuning(), Tuning(workers=2)]


def test_values_follow_what_the_server_can_do_in_the_time() -> None:
    found = values(1000.0, 0.05, (1, 8), (1.0, 2.0))
    assert found[Knob.QUEUE] == [5, 12, 25, 38, 50]
    assert found[Knob.TIMEOUT] == [15.0, 25.0, 35.0, 45.0]
    assert found[Knob.WAIT] == (1.0, 2.0)
    assert values(3.0, 0.05, (1,), ())[Knob.QUEUE] == [1]
