"""Who is asked when: each as it comes, or in batches that are made by the client, as static batching does. No bytes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from enum import Enum

from loadtests.generation.streams import Answer, Ask, Asked


class Joining(Enum):
    """How requests come to share a server's steps; `value` is for people."""

    CONTINUOUS = "ferry"
    WAVES = "ferry, waves"
    """So many at a time, and the next ones when the last of them has its answer; rows that have ended are not calculated any more."""
    STATIC = "ferry, static batches"
    """The same, but every row is calculated until the longest answer of its batch ends, as where a batch has one length."""


async def at_once(ask_one: Ask, work: Sequence[Asked]) -> list[Answer]:
    """All are asked at the same moment."""
    return list(await asyncio.gather(*(ask_one(one) for one in work)))


async def in_batches(ask_one: Ask, work: Sequence[Asked], joining: Joining, slots: int) -> list[Answer]:
    """So many at a time, and the next ones when the last of them has its answer; without batches all at once."""
    if joining is Joining.CONTINUOUS:
        return await at_once(ask_one, work)
    answers: list[Answer] = []
    for at in range(0, len(work), slots):
        answers += await at_once(ask_one, _batch(work[at : at + slots], joining))
    return answers


async def as_they_come(ask_one: Ask, work: Sequence[Asked], due_s: Sequence[float]) -> list[Answer]:
    """Each at its time; `asked_at` is when it was due, so that no delay of ours is hidden."""
    began_at = time.perf_counter()

    async def one(asked: Asked, due: float) -> Answer:
        await asyncio.sleep(max(0.0, began_at + due - time.perf_counter()))
        answer = await ask_one(asked)
        answer.asked_at = began_at + due
        return answer

    return list(await asyncio.gather(*(one(asked, due) for asked, due in zip(work, due_s, strict=True))))


async def batched_as_they_come(
    ask_one: Ask, work: Sequence[Asked], due_s: Sequence[float], joining: Joining, slots: int
) -> list[Answer]:
    """Batches of requests that come at their times: whoever waits goes together when those before have their answers."""
    if joining is Joining.CONTINUOUS:
        return await as_they_come(ask_one, work, due_s)
    began_at = time.perf_counter()
    answers: list[Answer] = []
    while len(answers) < len(work):
        at = len(answers)
        await asyncio.sleep(max(0.0, began_at + due_s[at] - time.perf_counter()))
        now = time.perf_counter() - began_at
        n = max(1, sum(due <= now for due in due_s[at : at + slots]))
        found = await at_once(ask_one, _batch(work[at : at + n], joining))
        for answer, due in zip(found, due_s[at : at + n], strict=True):
            answer.asked_at = began_at + due
        answers += found
    return answers


def _batch(work: Sequence[Asked], joining: Joining) -> Sequence[Asked]:
    """What is asked of the server for requests that go together."""
    if joining is not Joining.STATIC:
        return work
    longest = max(one.new_tokens for one in work)
    return [replace(one, new_tokens=longest) for one in work]
