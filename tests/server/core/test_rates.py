"""Token buckets in exact arithmetic: never more than what time and burst allow, never less than what is there, bounded memory."""

from __future__ import annotations

from fractions import Fraction
from itertools import accumulate
from math import inf
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.rates import Buckets

AMOUNT = st.fractions(Fraction(1, 50), 4, max_denominator=50)
STEPS = st.lists(st.tuples(st.fractions(0, 3, max_denominator=50), AMOUNT), min_size=1, max_size=40)


def exact(rate: Fraction, burst: Fraction, most_keys: int = 100) -> Any:
    """The arithmetic is the same for every kind of number; with these it has no rounding."""
    made: Any = Buckets
    return made(rate, burst, most_keys)


@given(AMOUNT, AMOUNT, STEPS)
def test_no_window_has_more_than_its_time_and_the_burst_allow(
    rate: Fraction, burst: Fraction, steps: list[tuple[Fraction, Fraction]]
) -> None:
    buckets = exact(rate, burst)
    taken: list[tuple[Fraction, Fraction]] = []
    for now, (_, cost) in zip(accumulate(gap for gap, _ in steps), steps, strict=True):
        if buckets.take(7, cost, now) == 0:
            taken.append((now, cost))
    for first, (start, _) in enumerate(taken):
        total = Fraction(0)
        for at, cost in taken[first:]:
            total += cost
            assert total <= burst + rate * (at - start)


@given(AMOUNT, AMOUNT, STEPS)
def test_it_refuses_only_what_is_not_there_and_says_exactly_when_it_will_be(
    rate: Fraction, burst: Fraction, steps: list[tuple[Fraction, Fraction]]
) -> None:
    buckets = exact(rate, burst)
    tokens, last = burst, Fraction(0)
    for now, (_, cost) in zip(accumulate(gap for gap, _ in steps), steps, strict=True):
        tokens, last = min(burst, tokens + rate * (now - last)), now
        wait_s = buckets.wait_s(7, cost, now)
        if cost > burst:
            assert wait_s == inf
        else:
            assert wait_s == max(0, (cost - tokens) / rate)
            assert buckets.wait_s(7, cost, now + wait_s) == 0
        assert buckets.take(7, cost, now) == wait_s
        tokens -= cost if wait_s == 0 else 0


@given(AMOUNT, AMOUNT, STEPS)
def test_whoever_is_charged_more_than_there_is_gets_nothing_until_it_is_paid(
    rate: Fraction, burst: Fraction, steps: list[tuple[Fraction, Fraction]]
) -> None:
    buckets = exact(rate, burst)
    tokens, last = burst, Fraction(0)
    for now, (_, cost) in zip(accumulate(gap for gap, _ in steps), steps, strict=True):
        tokens, last = min(burst, tokens + rate * (now - last)) - cost, now
        buckets.charge(7, cost, now)
        assert buckets.wait_s(7, burst, now) == (burst - tokens) / rate
        assert (buckets.take(7, Fraction(0), now) == 0) == (tokens >= 0)


def test_keys_do_not_share() -> None:
    buckets = Buckets(1.0, 2.0, 100)
    assert buckets.take(1, 2.0, 0.0) == 0
    assert buckets.take(1, 1.0, 0.0) == 1.0
    assert buckets.take(2, 2.0, 0.0) == 0


def test_a_refusal_takes_nothing_and_remembers_nobody() -> None:
    buckets = Buckets(1.0, 2.0, 100)
    assert buckets.take(1, 3.0, 0.0) == inf
    assert len(buckets) == 0
    assert buckets.take(1, 2.0, 0.0) == 0


def test_invented_keys_neither_grow_the_table_nor_take_from_those_who_are_known() -> None:
    buckets = Buckets(1.0, 2.0, 10)
    assert buckets.take(0, 1.5, 0.0) == 0
    granted = sum(buckets.take(key, 1.0, 0.0) == 0 for key in range(1, 1000))
    assert len(buckets) == 10
    assert granted == 9 + 2, "nine with a bucket of their own, all others together two tokens"
    assert buckets.take(0, 1.0, 0.0) == 0.5, "who was known keeps its bucket, no fuller and no emptier"
    assert buckets.take(0, 0.5, 0.0) == 0


def test_a_bucket_that_is_full_again_makes_room() -> None:
    buckets = Buckets(1.0, 2.0, 2)
    assert [buckets.take(key, 2.0, 0.0) for key in (1, 2, 3)] == [0, 0, 0]
    assert buckets.take(4, 2.0, 1.0) == 1.0, "3 has emptied the one that all others share"
    assert buckets.take(4, 2.0, 2.0) == 0
    assert buckets.take(5, 2.0, 2.0) == 0
    assert len(buckets) == 2


@pytest.mark.parametrize("seed", range(20))
def test_memory_is_bounded_and_those_without_a_bucket_of_their_own_share_one(seed: int) -> None:
    random = Random(seed)
    rate, burst, most_keys = 1.0, 3.0, 5
    buckets = Buckets(rate, burst, most_keys)
    now, total = 0.0, 0.0
    for _ in range(2000):
        now += random.expovariate(20.0)
        cost = random.uniform(0.1, 3.0)
        total += cost if buckets.take(random.randrange(10**9), cost, now) == 0 else 0.0
        assert len(buckets) <= most_keys
    assert total <= (most_keys + 1) * (burst + rate * now) + 1e-6


def test_a_large_debt_does_not_take_the_place_of_newcomers() -> None:
    buckets = Buckets(1.0, 2.0, 3)
    buckets.charge(1, 10_000.0, 0.0)
    for key in (2, 3):
        assert buckets.take(key, 1.0, 0.0) == 0
    assert [buckets.take(key, 2.0, 5.0) for key in (4, 5)] == [0, 0], "2 and 3 are full again: each has a bucket of its own"
    assert buckets.wait_s(1, 2.0, 5.0) == 10_000.0 - 5.0
    assert len(buckets) == 3
