from __future__ import annotations

import random
import socket
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loadtests.ledger import FAILED, NEVER_SENT, TIMED_OUT
from loadtests.open_loop import Plan, drive
from loadtests.sockets import Sockets
from loadtests.tally import part, punctuality, tally
from loadtests.wire import Bodies, Response
from tests.loadtests.conftest import Serve
from tests.loadtests.test_closed_loop import BUSY, HOST, OK, body_of, request

REPLIES = {"ok": [OK], "busy": [BUSY], "drop": [b""], "half": [OK[:20], b""], "junk": [b"junk\r\n\r\n"], "silence": []}


def plan(
    n: int, *, every_s: float = 0.0, timeout_s: float = 10.0, connections: int = 50, requests: Sequence[bytes] = ()
) -> Plan:
    requests = requests or [request(b"a")]
    return Plan([at * every_s for at in range(n)], [at % len(requests) for at in range(n)], requests, timeout_s, connections, 2)


def test_every_request_goes_out_once_and_when_it_is_due(serve: Serve) -> None:
    got: Counter[bytes] = Counter()

    def script(number: int, whole: bytes) -> list[bytes]:
        got[body_of(whole)] += 1
        return [OK]

    port = serve(script).port
    driven = drive((HOST, port), plan(60, every_s=0.002, requests=[request(b"a"), request(b"bb")]))
    assert got == {b"a": 30, b"bb": 30}
    assert driven.record.status.tolist() == [200] * 60
    assert (driven.record.lag_s >= 0).all()
    assert (driven.record.done_s > driven.record.sent_s).all()
    assert driven.own_cpu_s > 0


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 10_000), n=st.integers(0, 60), connections=st.integers(1, 30), slo_s=st.none() | st.floats(1e-4, 0.1)
)
def test_counts_add_up_whatever_a_server_does(serve: Serve, seed: int, n: int, connections: int, slo_s: float | None) -> None:
    rng = random.Random(seed)
    kinds: Counter[str] = Counter()

    def script(number: int, whole: bytes) -> list[bytes]:
        kind = rng.choices(list(REPLIES), [50, 30, 5, 5, 5, 2])[0]
        kinds[kind] += 1
        return REPLIES[kind]

    driven = drive((HOST, serve(script).port), plan(n, every_s=0.0005, timeout_s=0.25, connections=connections))
    counts = tally(driven.record, slo_s)
    assert counts.adds_up
    assert counts.scheduled == n == kinds.total() + counts.never_sent
    assert counts.answered <= kinds["ok"]
    assert counts.n_refused <= kinds["busy"]
    assert counts.timed_out >= kinds["silence"]
    assert counts.n_failed <= kinds["drop"] + kinds["half"] + kinds["junk"]
    assert driven.n_connections <= connections


def test_a_server_that_refuses_completes_and_says_why(serve: Serve) -> None:
    port = serve(lambda number, whole: [BUSY] if number % 10 < 3 else [OK]).port
    counts = tally(drive((HOST, port), plan(500)).record, None)
    assert counts.adds_up
    assert counts.refused == {"503 busy": 150}
    assert counts.in_slo == 350


def test_silence_is_a_timeout_and_what_waits_for_a_connection_is_never_sent(serve: Serve) -> None:
    record = drive((HOST, serve(lambda number, whole: []).port), plan(5, timeout_s=0.1, connections=2)).record
    assert record.status.tolist() == [TIMED_OUT, TIMED_OUT, NEVER_SENT, NEVER_SENT, NEVER_SENT]
    assert tally(record, None).never_sent == 3


def test_nobody_there_fails_every_request_and_says_why() -> None:
    with socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]
    counts = tally(drive((HOST, port), plan(20)).record, None)
    assert counts.n_failed == 20
    assert "refused" in next(iter(counts.failed))


def test_a_wrong_answer_is_a_failure(serve: Serve) -> None:
    def check(index: int, response: Response) -> str:
        assert response.body == b"ok"
        return "wrong answer" if index else ""

    port = serve(lambda number, whole: [OK]).port
    counts = tally(drive((HOST, port), plan(10, requests=[request(b"a"), request(b"b")]), check=check).record, None)
    assert counts.failed == {"wrong answer": 5}
    assert counts.answered == 5


def test_a_run_can_be_given_up(serve: Serve) -> None:
    ticks: list[tuple[int, int]] = []

    def on_tick(at_s: float, latencies_s: Sequence[float], n_ended: int, n_lost: int) -> bool:
        ticks.append((n_ended, n_lost))
        return False

    port = serve(lambda number, whole: [OK]).port
    record = drive((HOST, port), plan(100, every_s=0.1), on_tick=on_tick, tick_s=0.15).record
    assert len(ticks) == 1
    assert record.status[0] == 200
    assert record.status[-1] == NEVER_SENT
    assert set(record.status.tolist()) <= {200, FAILED, NEVER_SENT}


def test_a_server_that_closes_after_each_answer_fails_nothing(serve: Serve) -> None:
    closing = OK.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
    driven = drive((HOST, serve(lambda number, whole: [closing]).port), plan(30, connections=3))
    assert driven.record.status.tolist() == [200] * 30


def test_large_requests_leave_while_others_wait(serve: Serve) -> None:
    big = request(bytes(3_000_000))
    sizes: list[int] = []

    def script(number: int, whole: bytes) -> list[bytes]:
        sizes.append(len(whole))
        return [OK]

    assert drive((HOST, serve(script).port), plan(4, requests=[big])).record.status.tolist() == [200] * 4
    assert sizes == [len(big)] * 4


def test_a_generator_that_is_late_is_told_from_a_pool_that_is_full() -> None:
    record = drive((HOST, 1), plan(100)).record
    lag_s = np.zeros(100)
    lag_s[:5], lag_s[10:40] = 0.02, 0.02
    record.sent_s[:] = record.due_s + lag_s
    record.held_back[10:40] = True
    kept = punctuality(record, 0.0025)
    assert (kept.late, kept.held_back, kept.kept_up) == (5, 30, False)
    assert punctuality(part(record, lag_s == 0), 0.0025).kept_up


def test_an_epoll_of_a_high_number_waits_in_milliseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loadtests.sockets._MAX_SELECT_FD", 0)
    sockets = Sockets((HOST, 1), Bodies.SKIP)
    assert list(sockets.poll(0.001)) == []
    sockets.close_all()
