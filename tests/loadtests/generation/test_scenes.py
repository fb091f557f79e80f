"""What the scenes make of answers that are known."""

from __future__ import annotations

import asyncio
import time

import pytest

from loadtests.errors import LoadTestError
from loadtests.generation import scenes
from loadtests.generation.joining import Joining
from loadtests.generation.streams import Answer, Asked
from loadtests.generation.work import Work

WORK = Work([[9, 10]] * 4, [2, 2, 2, 6])


async def prompt_one(asked: Asked) -> Answer:
    at = time.perf_counter()
    await asyncio.sleep(0)
    times = [at + 0.001 * (1 + n) for n in range(asked.new_tokens)]
    return Answer(at, 200, "x" * asked.new_tokens, times, list(range(1, asked.new_tokens + 1)), "length")


def test_a_backlog_tells_the_texts_in_order() -> None:
    _, texts = scenes.backlog(prompt_one, WORK, Joining.CONTINUOUS, 2)
    assert texts == ["xx", "xx", "xx", "xxxxxx"]
    assert scenes.backlog(prompt_one, WORK, Joining.WAVES, 2)[1] == texts
    static = scenes.backlog(prompt_one, WORK, Joining.STATIC, 2)[1]
    assert static == ["xx", "xx", "xxxxxx", "xxxxxx"]
    assert scenes.alike(texts, static, Joining.STATIC) == 1.0
    assert scenes.alike(texts, static) == 0.75


def test_a_static_answer_is_right_if_it_begins_as_wanted() -> None:
    wanted = ["ab", "ab\N{REPLACEMENT CHARACTER}", "ab", "ab"]
    assert scenes.alike(wanted, ["abc", "ab\N{LATIN SMALL LETTER E WITH ACUTE}", "a", "bab"], Joining.STATIC) == 0.5


@pytest.mark.parametrize("joining", Joining)
def test_the_pace_of_arrivals_counts_wanted_tokens_only(joining: Joining) -> None:
    answers = scenes.arrivals(prompt_one, WORK, 1e4, joining, 4, seed=0)
    wanted = ["x" * n for n in WORK.new_tokens]
    pace = scenes.pace(answers, wanted)
    assert pace.first_p50_s < pace.first_p95_s
    own = sorted(answer.token_at[len(text) - 1] - answer.asked_at for answer, text in zip(answers, wanted, strict=True))
    assert pace.whole_p50_s == pytest.approx((own[1] + own[2]) / 2)


def test_arrivals_of_which_one_is_refused_are_no_result() -> None:
    async def refused(asked: Asked) -> Answer:
        return Answer(0.0, 429)

    with pytest.raises(LoadTestError, match="status 429"):
        scenes.arrivals(refused, WORK, 1e4, Joining.CONTINUOUS, 4, seed=0)


def test_a_backlog_of_anything_but_whole_answers_is_none() -> None:
    async def cut(asked: Asked) -> Answer:
        return Answer(0.0, 200, "x", [0.0], [1], "stop")

    with pytest.raises(LoadTestError, match="finish_reason 'stop'"):
        scenes.backlog(cut, WORK, Joining.CONTINUOUS, 2)


def test_only_answers_that_kept_both_objectives_count() -> None:
    async def answer(asked: Asked) -> Answer:
        at = time.perf_counter()
        if asked.new_tokens == 6:
            return Answer(at, 429, retry_after="1")
        return Answer(at, 200, "xx", [at + 0.01, at + 0.01 + (0.5 if asked.prompt[0] == 1 else 0.01)])

    work = Work([[1], [2], [3], [4]], [2, 2, 2, 6])
    kept = scenes.overload(answer, work, 1e6, slo_s=0.1, gap_s=0.1, seed=0)
    assert (kept.in_time, kept.refused, kept.broke_gap, kept.refusals_with_hint) == (0.5, 0.25, 0.25, 1.0)
    assert kept.tokens_per_s == pytest.approx(4 / 0.51, rel=0.1)


@pytest.mark.parametrize(("status", "what"), [(503, "not answered, the first with status 503"), (200, "nobody had two tokens")])
def test_a_long_prompt_among_nobody_is_no_result(status: int, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def late_or_never(asked: Asked) -> Answer:
        at = time.perf_counter()
        return Answer(at, status, "x", [at + 1.0, at + 1.1] if status == 200 else [])

    monkeypatch.setattr(scenes, "_WAIT_S", 0.0001)
    with pytest.raises(LoadTestError, match=what):
        scenes.long_prompt(late_or_never, [Asked([9], 2)] * 3, Asked([9], 2))
