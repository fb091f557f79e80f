"""The order of texts: by priority, then by arrival, with a floor for the lowest; its sums are those of what waits."""

from __future__ import annotations

from random import Random
from typing import NamedTuple

import pytest

from server.runtime.text_queue import LONGEST_WAITING_EVERY, TextQueue


class Text(NamedTuple):
    id: int
    priority: int
    cost_s: float = 1.0


def filled(*texts: Text) -> TextQueue[Text]:
    queue: TextQueue[Text] = TextQueue()
    for text in texts:
        queue.add(text)
    return queue


def test_by_priority_then_by_arrival() -> None:
    queue = filled(Text(1, 1), Text(2, 0), Text(3, -1), Text(4, 0), Text(5, 1))
    assert [queue.take().id for _ in range(5)] == [3, 2, 4, 1, 5]
    assert len(queue) == 0


def test_one_in_ten_is_the_one_that_has_waited_longest() -> None:
    queue = filled(*(Text(n, 1) for n in range(3)), *(Text(n, -1) for n in range(3, 40)))
    taken = [queue.take() for _ in range(30)]
    assert [place for place, text in enumerate(taken, 1) if text.priority == 1] == [10, 20, 30]
    assert [text.id for text in taken if text.priority == 1] == [0, 1, 2]
    assert LONGEST_WAITING_EVERY == 10


@pytest.mark.parametrize("seed", range(10))
def test_the_head_is_what_is_taken_and_the_sums_follow(seed: int) -> None:
    random = Random(seed)
    queue: TextQueue[Text] = TextQueue()
    waiting: list[Text] = []
    for number in range(500):
        if waiting and random.random() < 0.5:
            head = queue.head
            assert queue.take() is head
            waiting.remove(head)
        else:
            waiting.append(Text(number, random.randrange(-1, 2), random.randrange(1, 9) / 8))
            queue.add(waiting[-1])
        assert len(queue) == len(waiting)
        assert queue.seconds == sum(text.cost_s for text in waiting)
        for priority in (-1, 0, 1):
            assert queue.n_before(priority) == sum(text.priority <= priority for text in waiting)
            assert queue.before_s(priority) == sum(text.cost_s for text in waiting if text.priority <= priority)
