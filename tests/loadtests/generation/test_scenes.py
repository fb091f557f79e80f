"""What the scenes make of answers that are known."""

from __future__ import annotations

import asyncio
import time

import pytest

from loadtests.errors import LoadTestError
from loadtests.generation import scenes
from loadtests.generation.streams import Answer, Asked
from loadtests.generation.work import Work

WORK = Work([[9, 10]] * 4, [2, 2, 2, 6])


async def prompt_one(asked: Asked) -> Answer:
    at = time.perf_counter()
    await asyncio.sleep(0)
    times = [at + 0.001 * (1 + n) for n in range(asked.new_tokens)]
    return Answer(at, 200, "x" * asked.new_tokens, times, "length")


def test_a_backlog_tells_the_texts_in_order() -> None:
    _, texts = scenes.backlog(prompt_one, WORK, None)
    assert texts == ["xx", "xx", "xx", "xxxxxx"]
    assert scenes.backlog(prompt_one, WORK, 2)[1] == texts


def test_a_backlog_of_anything_but_whole_answers_is_none() -> None:
    async def cut(asked: Asked) -> Answer:
        return Answer(0.0, 200, "x", [0.0], "stop")

    with pytest.raises(LoadTestError, match="finish_reason 'stop'"):
        scenes.backlog(cut, WORK, None)


def test_only_answers_that_kept_both_objectives_count() -> None:
    async def answer(asked: Asked) -> Answer:
        at = time.perf_counter()
        if asked.new_tokens == 6:
            return Answer(at, 429, retry_after="1")
        return Answer(at, 200, "xx", [at + 0.01, at + 0.01 + (0.5 if asked.prompt[0] == 1 else 0.01)], "length")

    work = Work([[1], [2], [3], [4]], [2, 2, 2, 6])
    kept = scenes.overload(answer, work, 1e6, slo_s=0.1, gap_s=0.1, seed=0)
    assert (kept.in_time, kept.refused, kept.broke_gap, kept.refusals_with_hint) == (0.5, 0.25, 0.25, 1.0)
    assert kept.tokens_per_s == pytest.approx(4 / 0.51, rel=0.1)
