"""The ledger in virtual time: worlds of servers that answer, refuse, break or stay silent; no socket, no clock."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.arrivals import Spacing, Steady, schedule
from loadtests.ledger import FAILED, NEVER_SENT, OTHER, TIMED_OUT, Ledger, Reasons, Record, interleave
from loadtests.tally import quantiles_ms, tally

Server = Callable[[int, float], tuple[float, int]]
"""(number, sent at) → (ends at, status); a status of 0 is a broken connection."""


def send(ledger: Ledger, now_s: float) -> int:
    ordinal = ledger.take(now_s)
    ledger.sent(ordinal, now_s)
    return ordinal


def simulate(due_s: list[float], server: Server, *, timeout_s: float = 10.0, n_connections: int = 10**9) -> Record:
    """The open loop as the driver runs it, with a clock that jumps from event to event."""
    ledger = Ledger(due_s, timeout_s)
    ends: list[tuple[float, int, int]] = []
    in_flight: set[int] = set()
    now_s = 0.0
    while ledger.n_open:
        while ledger.next_due_s <= now_s and len(in_flight) < n_connections:
            ordinal = send(ledger, now_s)
            in_flight.add(ordinal)
            end_s, status = server(ordinal, now_s)
            heapq.heappush(ends, (end_s, ordinal, status))
        blocked = ledger.next_due_s <= now_s
        wake_s = min(
            ledger.next_timeout_s, float("inf") if blocked else ledger.next_due_s, ends[0][0] if ends else float("inf")
        )
        now_s = max(now_s, wake_s)
        if blocked:
            ledger.hold_back(now_s)
        while ends and ends[0][0] <= now_s:
            end_s, ordinal, status = heapq.heappop(ends)
            if ordinal in in_flight:
                in_flight.discard(ordinal)
                if status:
                    ledger.answered(ordinal, end_s, status, "" if status == 200 else "busy")
                else:
                    ledger.failed(ordinal, "reset")
        in_flight -= set(ledger.expire(now_s))
    return ledger.record()


def stalling(stall_s: float, period_s: float) -> Server:
    def server(number: int, sent_s: float) -> tuple[float, int]:
        into_s = sent_s % period_s
        return sent_s + max(0.0, stall_s - into_s), 200

    return server


@pytest.mark.parametrize("spacing", Spacing)
def test_a_server_that_stalls_is_seen_as_it_is(spacing: Spacing) -> None:
    due_s = schedule(Steady(), spacing, 100, 600, 1).tolist()
    found = quantiles_ms(simulate(due_s, stalling(0.5, 2.0)))
    assert found["p95"] == pytest.approx(400, rel=0.05)
    assert found["p99"] == pytest.approx(480, rel=0.05)
    assert found["p50"] == 0


def test_a_wait_for_a_connection_is_in_the_latency_and_not_the_generators_fault() -> None:
    due_s = [n / 100 for n in range(1000)]
    record = simulate(due_s, stalling(0.5, 2.0), n_connections=1)
    assert quantiles_ms(record)["p95"] == pytest.approx(400, rel=0.05)
    late = record.lag_s > 1e-3
    assert late.sum() == 245
    assert record.held_back[late].all()


@given(
    seed=st.integers(0, 10_000),
    n=st.integers(0, 80),
    timeout_s=st.floats(0.01, 2.0),
    n_connections=st.integers(1, 20),
    slo_s=st.none() | st.floats(0.001, 1.0),
)
def test_every_request_has_exactly_one_end(
    seed: int, n: int, timeout_s: float, n_connections: int, slo_s: float | None
) -> None:
    rng = random.Random(seed)
    kinds: dict[int, int] = {}

    def server(number: int, sent_s: float) -> tuple[float, int]:
        kinds[number] = rng.choice([200, 200, 200, 503, 429, 0])
        return sent_s + rng.choice([0.0, rng.expovariate(5), float("inf")]), kinds[number]

    due_s = sorted(rng.uniform(0, 1) for _ in range(n))
    record = simulate(due_s, server, timeout_s=timeout_s, n_connections=n_connections)
    counts = tally(record, slo_s)
    assert counts.adds_up
    assert counts.scheduled == n == len(kinds) + counts.never_sent
    assert counts.timed_out == (record.status == TIMED_OUT).sum()
    for number, status in enumerate(record.status.tolist()):
        assert status in (TIMED_OUT, kinds.get(number, NEVER_SENT))
    ended = ~np.isnan(record.done_s)
    assert (ended == (record.status > 0)).all()
    assert (record.latency_s[ended] <= timeout_s + 1e-9).all()
    assert (record.sent_s[ended] >= record.due_s[ended]).all()


def test_what_waits_for_its_own_connection_too_long_is_never_sent() -> None:
    ledger = Ledger([0.0, 0.1, 0.2], 1.0)
    first, second, third = send(ledger, 0.0), ledger.take(0.1), ledger.take(0.2)
    ledger.sent_after_wait(third, 0.5)
    assert ledger.expire(1.15) == [first]
    assert not ledger.is_open(second)
    assert ledger.is_open(third)
    ledger.answered(third, 0.6, 200)
    record = ledger.record()
    assert record.status.tolist() == [TIMED_OUT, NEVER_SENT, 200]
    assert record.held_back.tolist() == [False, False, True]


def test_giving_up_ends_everything() -> None:
    ledger = Ledger([0.0, 0.1, 0.2, 0.3], 10)
    ledger.answered(send(ledger, 0.0), 0.05, 200)
    send(ledger, 0.1)
    ledger.take(0.2)
    ledger.give_up("interrupted")
    record = ledger.record()
    assert record.status.tolist() == [200, FAILED, NEVER_SENT, NEVER_SENT]
    assert ledger.next_due_s == ledger.next_timeout_s == float("inf")


def test_reasons_are_few() -> None:
    reasons = Reasons()
    numbers = [reasons.number(str(n)) for n in range(200)]
    assert reasons.number("5") == numbers[5]
    assert len(reasons.texts()) <= 65
    assert reasons.texts()[numbers[-1]] == OTHER


@given(st.integers(1, 5), st.integers(1, 40))
def test_a_schedule_that_was_dealt_out_comes_back_in_order(n_generators: int, n: int) -> None:
    due_s = [float(at) for at in range(n)]
    parts = []
    for at in range(n_generators):
        ledger = Ledger(due_s[at::n_generators], 1.0)
        for one in due_s[at::n_generators]:
            ledger.failed(send(ledger, one), f"reason {int(one) % 3}")
        parts.append(ledger.record())
    whole = interleave(parts)
    assert whole.due_s.tolist() == whole.sent_s.tolist() == due_s
    assert [whole.reasons[at] for at in whole.reason] == [f"reason {at % 3}" for at in range(n)]
    assert Counter(whole.status.tolist()) == {FAILED: n}
