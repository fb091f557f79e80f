"""Requests are asked for when and with whom their way of joining says."""

from __future__ import annotations

import asyncio

import pytest

from loadtests.generation.joining import Joining, as_they_come, batched_as_they_come, in_batches
from loadtests.generation.streams import Answer, Asked


class Busy:
    """Counts who is asked at the same time."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self.order: list[int] = []

    async def __call__(self, asked: Asked) -> Answer:
        self.now += 1
        self.most = max(self.most, self.now)
        self.order.append(asked.new_tokens)
        for _ in range(asked.new_tokens):
            await asyncio.sleep(0)
        self.now -= 1
        return Answer(0.0, 200, token_at=[0.0])


WORK = [Asked([9], n) for n in (3, 1, 2, 1, 4)]
ORDERS = {
    Joining.CONTINUOUS: (5, [3, 1, 2, 1, 4]),
    Joining.WAVES: (2, [3, 1, 2, 1, 4]),
    Joining.STATIC: (2, [3, 3, 2, 2, 4]),
}


@pytest.mark.parametrize("joining", Joining)
def test_batches_wait_for_the_last_of_the_one_before(joining: Joining) -> None:
    busy = Busy()
    answers = asyncio.run(in_batches(busy, WORK, joining, 2))
    assert (len(answers), busy.most, busy.order) == (5, *ORDERS[joining])


def test_requests_are_timed_from_when_they_were_due() -> None:
    answers = asyncio.run(as_they_come(Busy(), WORK, [0.0, 0.0, 0.01, 0.01, 0.02]))
    asked_at = [answer.asked_at - answers[0].asked_at for answer in answers]
    assert asked_at == pytest.approx([0.0, 0.0, 0.01, 0.01, 0.02])


@pytest.mark.parametrize("joining", Joining)
def test_batches_take_who_waits(joining: Joining) -> None:
    busy = Busy()
    due_s = [0.0, 0.0, 0.0, 0.0, 0.02]
    answers = asyncio.run(batched_as_they_come(busy, WORK, due_s, joining, 2))
    most, order = ORDERS[joining]
    assert (len(answers), busy.most, busy.order) == (5, min(most, 4), order)
    asked_at = [answer.asked_at - answers[0].asked_at for answer in answers]
    assert asked_at == pytest.approx(due_s)
