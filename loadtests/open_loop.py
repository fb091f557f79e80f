"""An open-loop driver: one thread sends each request when it is due, whatever the server does. It knows no V2.

The pool of connections grows up to a limit; latency counts from the due time, so a wait for a connection is in it.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from loadtests.clients import Assignment, Independent, Pooled
from loadtests.ledger import FAILED, TIMED_OUT, Ledger, Record
from loadtests.protocols import Protocol
from loadtests.refusals import Refusals
from loadtests.sockets import NO_REQUEST, Broken, Connection, Sockets
from loadtests.wire import Bodies, Response

Check = Callable[[int, Response], str]
"""(index of the request, answer of status 200) → what is wrong with it, or an empty text."""
OnTick = Callable[[float, Sequence[float], int, int], bool]
"""(seconds since the start, latest latencies, ended, not answered) → whether to go on; called every `tick_s`."""

_LONGEST_WAIT_S = 0.25
_MOST_SENDS = 64
"""Between two looks at the replies, so that a generator that is behind still reads them."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What one generator does: when each request is due, and which of `requests` it is.

    `client_of` says for each whose it is, each of `max_connections` clients having one connection; None is one client with all of them.
    """

    due_s: Sequence[float]
    which: Sequence[int]
    requests: Sequence[bytes]
    timeout_s: float
    max_connections: int
    warm_connections: int = 0
    protocol: Protocol = Protocol.HTTP
    client_of: Sequence[int] | None = None


@dataclass(frozen=True, slots=True)
class Driven:
    """A finished plan, and what driving it cost. `n_connections` is the most that were open at once."""

    record: Record
    own_cpu_s: float
    n_connections: int


def drive(
    address: tuple[str, int],
    plan: Plan,
    *,
    start_at: float | None = None,
    check: Check | None = None,
    on_tick: OnTick | None = None,
    tick_s: float = 0.5,
) -> Driven:
    """Send the plan's requests from `start_at` (of `time.perf_counter`) on; every one of them has an end afterwards.

    Nothing that the server does ends the run before its last request is answered or has timed out; only `on_tick` can.
    """
    if start_at is None:
        start_at = time.perf_counter()
    driver = _Driver(address, plan, start_at, check, on_tick, tick_s)
    with _without_collector():
        try:
            return driver.run()
        finally:
            driver.close()


@contextmanager
def _without_collector() -> Iterator[None]:
    """A collection stops the generator for milliseconds; the arrays of a run make no cycles."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class _Driver:
    """Moves the requests of one run between the ledger and the sockets."""

    def __init__(
        self,
        address: tuple[str, int],
        plan: Plan,
        start_at: float,
        check: Check | None,
        on_tick: OnTick | None,
        tick_s: float,
    ) -> None:
        self._plan = plan
        self._start_at = start_at
        self._check = check
        self._on_tick = on_tick
        self._tick_s = tick_s
        self._next_tick_s = tick_s if on_tick else float("inf")
        self._ledger = Ledger(plan.due_s, plan.timeout_s)
        self._sockets = Sockets(address, Bodies.ERRORS if check is None else Bodies.KEEP, plan.protocol)
        self._assignment: Assignment = Pooled(plan.max_connections)
        if plan.client_of is not None:
            self._assignment = Independent(plan.client_of, self._ledger.is_open)
        self._in_flight: dict[int, Connection] = {}
        self._refusals = Refusals()
        self._latest_s: list[float] = []
        self._n_lost = 0
        self._n_connections = 0

    def run(self) -> Driven:
        for _ in range(min(self._plan.warm_connections, self._plan.max_connections)):
            self._warm()
        cpu_s = time.thread_time()
        while self._ledger.n_open:
            self._turn()
        return Driven(self._ledger.record(), time.thread_time() - cpu_s, self._n_connections)

    def close(self) -> None:
        self._sockets.close_all()

    def _now_s(self) -> float:
        return time.perf_counter() - self._start_at

    def _turn(self) -> None:
        """Send what is due, time out what is due for that, wait for what comes next."""
        ledger, now_s = self._ledger, self._now_s()
        for _ in range(_MOST_SENDS):
            if ledger.next_due_s > now_s or self._exhausted():
                break
            ordinal = ledger.take(now_s)
            if self._assignment.takes(ordinal):
                ledger.sent(ordinal, now_s)
                self._send(ordinal)
            now_s = self._now_s()
        if ledger.next_timeout_s <= now_s:
            self._expire(now_s)
        if now_s >= self._next_tick_s:
            self._tick(now_s)
            if not ledger.n_open:
                return  # given up: what still comes has no place any more
        self._wait(now_s)

    def _exhausted(self) -> bool:
        """Whether no connection is free, and no further one may be opened."""
        return self._assignment.exhausted(len(self._sockets))

    def _wait(self, now_s: float) -> None:
        due_s = self._ledger.next_due_s
        blocked = due_s <= now_s and self._exhausted()
        if blocked:
            due_s = float("inf")
        until_s = min(due_s, self._ledger.next_timeout_s, self._next_tick_s)
        for connection, found in self._sockets.poll(min(until_s - now_s, _LONGEST_WAIT_S)):
            if isinstance(found, Broken):
                self._broken(connection, found.why)
            else:
                self._finish(connection, found)
        if blocked:
            self._ledger.hold_back(self._now_s())

    def _send(self, ordinal: int) -> None:
        """Send a request; if its connection cannot be opened, those that wait for the same one fail or go out instead."""
        following: int | None = ordinal
        while following is not None:
            try:
                connection = self._assignment.claim(following) or self._open()
            except OSError as error:
                self._n_lost += 1
                self._ledger.failed(following, error.strerror or str(error))
                following = self._next_on(following, None)
            else:
                self._in_flight[following] = connection
                self._sockets.send(connection, following, self._plan.requests[self._plan.which[following]])
                return

    def _freed(self, ordinal: int, connection: Connection | None) -> None:
        """A request has ended and its connection is free, or closed (None): what waited for just this one goes out."""
        following = self._next_on(ordinal, connection)
        if following is not None:
            self._send(following)

    def _next_on(self, ordinal: int, connection: Connection | None) -> int | None:
        following = self._assignment.freed(ordinal, connection)
        if following is not None:
            self._ledger.sent_after_wait(following, self._now_s())
        return following

    def _open(self) -> Connection:
        connection = self._sockets.begin()
        self._n_connections = max(self._n_connections, len(self._sockets))
        return connection

    def _warm(self) -> None:
        try:
            connection = self._open()
        except OSError:
            return  # the requests will say so
        self._assignment.add(connection)

    def _finish(self, connection: Connection, response: Response) -> None:
        now_s, ordinal, status = self._now_s(), connection.ordinal, response.head.status
        del self._in_flight[ordinal]
        connection.ordinal = NO_REQUEST
        if status != 200:
            self._n_lost += 1
            self._refused(ordinal, now_s, status, self._refusals.reason(response.body))
        elif self._check is not None and (wrong := self._check(self._plan.which[ordinal], response)):
            self._n_lost += 1
            self._ledger.failed(ordinal, wrong)
        else:
            self._ledger.answered(ordinal, now_s, 200)
            if self._on_tick is not None:
                self._latest_s.append(now_s - self._plan.due_s[ordinal])
        if response.head.closes or not connection.reader.idle:
            self._sockets.close(connection)
            self._freed(ordinal, None)
        else:
            self._freed(ordinal, connection)

    def _refused(self, ordinal: int, now_s: float, status: int, reason: str) -> None:
        if status == FAILED:
            self._ledger.failed(ordinal, reason or "unknown")
        elif status == TIMED_OUT:
            self._ledger.timed_out(ordinal)
        else:
            self._ledger.answered(ordinal, now_s, status, reason)

    def _broken(self, connection: Connection, why: str) -> None:
        if connection.ordinal == NO_REQUEST:
            self._assignment.forget(connection)
            return
        self._n_lost += 1
        del self._in_flight[connection.ordinal]
        self._ledger.failed(connection.ordinal, why)
        self._freed(connection.ordinal, None)

    def _expire(self, now_s: float) -> None:
        for ordinal in self._ledger.expire(now_s):
            self._n_lost += 1
            self._sockets.close(self._in_flight.pop(ordinal))
            self._freed(ordinal, None)

    def _tick(self, now_s: float) -> None:
        self._next_tick_s = now_s + self._tick_s
        assert self._on_tick is not None
        n_ended = len(self._plan.due_s) - self._ledger.n_open
        if not self._on_tick(now_s, self._latest_s, n_ended, self._n_lost):
            self._ledger.give_up("the run was interrupted")
        self._latest_s = []
