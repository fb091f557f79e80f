"""What a generating server is put through: a backlog, requests that come at random, a long prompt among those who decode, an overload."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from loadtests.errors import LoadTestError
from loadtests.generation.joining import Joining, as_they_come, batched_as_they_come, in_batches
from loadtests.generation.streams import Answer, Ask, Asked, settled
from loadtests.generation.work import Work
from loadtests.precedence import going_first

T = TypeVar("T")

_WAIT_S = 1.0
"""Then the long prompt comes: all others have been read for half of that time, and none has ended."""


def driven(coming: Coroutine[Any, Any, T]) -> T:
    """Clients at work whose waits are measured: they go before a server on the same machine."""
    with going_first():
        return asyncio.run(coming)


def asked(work: Work, counts: bool = False) -> list[Asked]:
    """The work as requests. `counts`: where it matters when each token came."""
    return [Asked(prompt, n, counts) for prompt, n in zip(work.prompts, work.new_tokens, strict=True)]


def backlog(ask: Ask, work: Work, joining: Joining, slots: int) -> tuple[float, list[str]]:
    """Everything asked at once, or in batches of `slots`: seconds until the last answer ended, and the texts, which in static batches
    are longer than what was wanted. Raises LoadTestError when an answer is not a whole one."""
    began_at = time.perf_counter()
    answers = asyncio.run(in_batches(ask, asked(work), joining, slots))
    took_s = time.perf_counter() - began_at
    for answer in answers:
        if answer.status != 200 or answer.finish != "length":
            raise LoadTestError(f"an answer ended with status {answer.status} and finish_reason {answer.finish!r}")
    return took_s, [answer.text for answer in answers]


def alike(wanted: Sequence[str], found: Sequence[str], joining: Joining = Joining.CONTINUOUS) -> float:
    """The share of answers that are what was wanted: of static batches, those that begin with it."""
    if joining is Joining.STATIC:
        same = [other.startswith(settled(one)) for one, other in zip(wanted, found, strict=True)]
    else:
        same = [other == one for one, other in zip(wanted, found, strict=True)]
    return sum(same) / len(same)


@dataclass(frozen=True, slots=True)
class Pace:
    """First tokens and whole answers of requests that came at random, in seconds."""

    first_p50_s: float
    first_p95_s: float
    whole_p50_s: float


def arrivals(ask: Ask, work: Work, rate: float, joining: Joining, slots: int, seed: int) -> list[Answer]:
    """Poisson arrivals at so many requests per second. Raises LoadTestError when one is not answered."""
    coming = batched_as_they_come(ask, asked(work), due_s(work, rate, seed), joining, slots)
    answers = driven(coming)
    for answer in answers:
        if answer.status != 200:
            raise LoadTestError(f"an answer has status {answer.status}, where nobody should be refused")
    return answers


def pace(answers: Sequence[Answer], wanted: Sequence[str]) -> Pace:
    """How soon these answers had said what was wanted of them, which may be less than they say."""
    first = np.array([answer.first_s for answer in answers])
    whole = np.array([answer.said_at(text) - answer.asked_at for answer, text in zip(answers, wanted, strict=True)])
    return Pace(*(float(one) for one in (np.median(first), np.quantile(first, 0.95), np.median(whole))))


def due_s(work: Work, rate: float, seed: int) -> list[float]:
    """A Poisson process: when each is due, in seconds from the start."""
    times: list[float] = np.cumsum(np.random.default_rng(seed).exponential(1 / rate, len(work.prompts))).tolist()
    return times


@dataclass(frozen=True, slots=True)
class Gap:
    """Between two tokens of those who decode: usually, and at worst while a long prompt came in; and that one's first token."""

    plain_s: float
    worst_s: float
    first_s: float


def long_prompt(ask: Ask, rows: Sequence[Asked], long: Asked) -> Gap:
    """A long prompt among rows that decode. Raises LoadTestError when not all were answered, or nobody decoded when it came."""

    async def both() -> tuple[list[Answer], Answer]:
        decoding = [asyncio.ensure_future(ask(one)) for one in rows]
        await asyncio.sleep(_WAIT_S)
        late = await ask(long)
        return list(await asyncio.gather(*decoding)), late

    answers, late = driven(both())
    if refused := [one.status for one in (*answers, late) if one.status != 200]:
        raise LoadTestError(
            f"{len(refused)} requests were not answered, the first with status {refused[0]}: is the machine busy?"
        )
    until = late.token_at[0]
    before = [gap for one in answers for at, gap in _timed(one) if late.asked_at - _WAIT_S / 2 < at < late.asked_at]
    if not before:
        raise LoadTestError(f"nobody had two tokens after {_WAIT_S:g} s, when the long prompt came: is the machine busy?")
    during = [gap for one in answers for at, gap in _timed(one) if late.asked_at <= at <= until + max(before)]
    return Gap(statistics.median(before), max(during), late.first_s)


def _timed(answer: Answer) -> list[tuple[float, float]]:
    return list(zip(answer.token_at[1:], answer.gaps_s, strict=True))


@dataclass(frozen=True, slots=True)
class Kept:
    """Of an open load: tokens per second of answers whose first token and whose every gap kept the objective; shares of requests."""

    tokens_per_s: float
    in_time: float
    refused: float
    broke_gap: float
    refusals_with_hint: float


def overload(ask: Ask, work: Work, rate: float, slo_s: float, gap_s: float, seed: int) -> Kept:
    """Poisson arrivals, whatever the server makes of them. Refusals count as nothing."""
    answers = driven(as_they_come(ask, asked(work, counts=True), due_s(work, rate, seed)))
    served = [(one, n) for one, n in zip(answers, work.new_tokens, strict=True) if one.status == 200]
    refused = [one for one in answers if one.status != 200]
    prompt = [(one, n) for one, n in served if one.first_s <= slo_s]
    good = [n for one, n in prompt if max(one.gaps_s, default=0.0) <= gap_s]
    span_s = max(one.token_at[-1] for one, _ in served) - min(one.asked_at for one in answers)
    n = len(answers)
    hinted = sum(one.retry_after is not None for one in refused) / max(1, len(refused))
    return Kept(sum(good) / span_s, len(good) / n, len(refused) / n, (len(prompt) - len(good)) / n, hinted)
