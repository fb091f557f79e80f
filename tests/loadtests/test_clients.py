from __future__ import annotations

from collections import Counter, deque
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loadtests.clients import Clients, Independent, Pooled, draw
from loadtests.generators import deal
from loadtests.ledger import FAILED, NEVER_SENT, TIMED_OUT
from loadtests.load import Generator, _client_of, _warm
from loadtests.open_loop import Plan, drive
from loadtests.tally import tally
from tests.loadtests.conftest import Serve
from tests.loadtests.test_closed_loop import BUSY, HOST, OK, body_of, request


def connection(fd: int) -> Any:
    return SimpleNamespace(fd=fd)


def test_a_pool_gives_whichever_connection_is_free_and_grows_up_to_its_limit() -> None:
    pool = Pooled(2)
    first = connection(1)
    assert pool.claim(0) is None
    assert not pool.exhausted(n_open=1)
    assert pool.exhausted(n_open=2)
    assert pool.freed(0, first) is None
    assert not pool.exhausted(n_open=2)
    assert pool.claim(1) is first


def test_an_independent_client_waits_for_its_own_connection_while_others_are_idle() -> None:
    ended: set[int] = set()
    clients = Independent([0, 0, 0, 1, 0], lambda ordinal: ordinal not in ended)
    mine, theirs = connection(1), connection(2)
    clients.add(mine)
    clients.add(theirs)
    assert clients.takes(0)
    assert clients.claim(0) is mine
    assert not clients.takes(1)
    assert not clients.takes(2)
    assert clients.takes(3)
    assert clients.claim(3) is theirs
    ended.add(1)  # it has waited too long
    assert clients.freed(0, mine) == 2
    assert clients.claim(2) is mine
    assert clients.freed(2, None) is None
    assert clients.takes(4)
    assert clients.claim(4) is None


def test_a_connection_that_the_server_closed_is_not_used_again() -> None:
    clients = Independent([0, 1], lambda ordinal: True)
    mine, theirs = connection(1), connection(2)
    clients.add(mine)
    clients.add(theirs)
    clients.forget(mine)
    assert clients.takes(0)
    assert clients.claim(0) is None
    assert clients.takes(1)
    assert clients.claim(1) is theirs
    clients.forget(connection(9))


def test_each_client_has_its_share_of_a_poisson_stream() -> None:
    counts = np.bincount(draw(100_000, 100, seed=1), minlength=100)
    assert counts.sum() == 100_000
    assert counts.var() == pytest.approx(counts.mean(), rel=0.5)


def test_generators_share_the_clients_out_and_all_connections_stand_before_the_start() -> None:
    independent = Generator(2, 9, 1.0, clients=Clients.INDEPENDENT)
    assert _warm(independent) == 9
    assert _client_of(Generator(2, 9, 1.0), 10) is None
    client_of = _client_of(independent, 1000)
    assert client_of is not None
    assert set(client_of) == set(range(8))
    plans = deal(Plan([0.0] * 1000, [0] * 1000, [b""], 1.0, 9, 9, client_of=client_of), 2)
    assert all(one.client_of is not None and set(one.client_of) == set(range(one.max_connections)) for one in plans)


def plan(client_of: list[int], requests: list[bytes], timeout_s: float = 10.0, every_s: float = 0.0) -> Plan:
    n = len(client_of)
    which = [at % len(requests) for at in range(n)]
    return Plan(
        [at * every_s for at in range(n)],
        which,
        requests,
        timeout_s,
        max(client_of) + 1,
        max(client_of) + 1,
        client_of=client_of,
    )


def test_a_starved_client_misses_all_of_its_own_and_nobody_elses(serve: Serve) -> None:
    """With a pool only one request would be lost: the others would take the connections that are served."""

    def script(number: int, whole: bytes) -> list[bytes]:
        return [OK] if body_of(whole) == b"b" else []

    port = serve(script).port
    requests = [request(b"a"), request(b"b")]
    record = drive((HOST, port), plan([0, 1] * 20, requests, timeout_s=0.3, every_s=0.002)).record
    assert record.status[1::2].tolist() == [200] * 20
    assert record.status[0] == TIMED_OUT
    assert set(record.status[0::2].tolist()) <= {TIMED_OUT, NEVER_SENT}
    assert Counter(record.status.tolist())[200] == 20


def test_what_waited_for_its_own_connection_says_so_and_counts_from_when_it_was_due(serve: Serve) -> None:
    record = drive((HOST, serve(lambda number, whole: [OK]).port), plan([0, 0, 0], [request(b"a")])).record
    assert record.status.tolist() == [200] * 3
    assert record.held_back.tolist() == [False, True, True]
    assert (np.diff(record.sent_s) > 0).all()


def test_a_line_of_any_length_fails_when_nobody_is_there() -> None:
    counts = tally(drive((HOST, 1), plan([0] * 3000, [request(b"a")])).record, None)
    assert counts.n_failed == 3000


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(client_of=st.lists(st.integers(0, 7), min_size=1, max_size=60), kinds=st.lists(st.sampled_from("obdhs"), min_size=60))
def test_counts_add_up_whatever_a_server_does_to_independent_clients(
    serve: Serve, client_of: list[int], kinds: list[str]
) -> None:
    replies = {"o": [OK], "b": [BUSY], "d": [b""], "h": [OK[:20], b""], "s": []}
    left = deque(kinds)
    driven = drive(
        (HOST, serve(lambda number, whole: replies[left.popleft()]).port),
        plan(client_of, [request(b"a")], timeout_s=0.15, every_s=0.0003),
    )
    counts = tally(driven.record, None)
    assert counts.adds_up
    assert counts.scheduled == len(client_of)
    assert driven.n_connections <= max(client_of) + 1
    assert set(driven.record.status.tolist()) <= {200, 503, FAILED, TIMED_OUT, NEVER_SENT}
