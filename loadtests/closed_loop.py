"""A closed-loop driver: one thread, N keep-alive connections, one request in flight on each. It knows no V2.

A closed loop measures cost and peak rate. It hides stalls: say nothing about latency under a given load with it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from loadtests.errors import CannotConnect
from loadtests.ledger import FAILED, TIMED_OUT
from loadtests.protocols import Protocol
from loadtests.sockets import NO_REQUEST, Broken, Connection, Sockets
from loadtests.wire import Bodies, Response

OnAnswer = Callable[[int, int, Mapping[str, str], bytes], None]
"""(index into `requests`, status, headers with lower-case names, body), for each whole response of any status."""

_CONNECT_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Result:
    """What became of every request sent: `sent == answered + n_refused + failed + timed_out`.

    `answered` counts status 200, `refused` the other statuses, `failed` resets, malformed replies and requests without
    a reply, `timed_out` what the server says was past its own deadline (gRPC). `latencies_s` is float64 [answered] in order of completion, from just before the send to the last read.
    `statuses` is int16 [sent] in order of sending. `wall_s` includes the wait for the last replies; `own_cpu_s` is the
    CPU time of the driving thread.
    """

    connections: int
    sent: int
    answered: int
    refused: Counter[int]
    failed: int
    wall_s: float
    own_cpu_s: float
    latencies_s: npt.NDArray[np.float64]
    statuses: npt.NDArray[np.int16]
    timed_out: int = 0

    @property
    def n_refused(self) -> int:
        return self.refused.total()

    @property
    def throughput(self) -> float:
        """Answers with status 200 per second of wall time."""
        return self.answered / self.wall_s

    @property
    def p50(self) -> float:
        """Median latency in seconds; NaN without an answer."""
        return self.quantile(0.5)

    @property
    def p99(self) -> float:
        """99th percentile of latency in seconds; NaN without an answer."""
        return self.quantile(0.99)

    def quantile(self, q: float) -> float:
        """Latency in seconds at `q` in 0…1; NaN without an answer."""
        return float(np.quantile(self.latencies_s, q)) if self.latencies_s.size else float("nan")


def drive(
    host: str,
    port: int,
    requests: Sequence[bytes],
    *,
    connections: int,
    duration_s: float | None = None,
    n_requests: int | None = None,
    on_answer: OnAnswer | None = None,
    stall_s: float = 15.0,
    protocol: Protocol = Protocol.HTTP,
) -> Result:
    """Send `requests` in a shared cycle over `connections` connections for `duration_s` or until `n_requests` are sent.

    At the end the replies still out are waited for. A connection that breaks costs its request (`failed`) and is
    opened again; when no reply at all comes for `stall_s` seconds, all requests in flight have failed and the run ends.
    Without `on_answer` bodies are skipped unread. Raises CannotConnect if no connection can be opened, ValueError for
    an empty cycle or when not exactly one of `duration_s` and `n_requests` is given.
    """
    if not requests or connections < 1:
        raise ValueError("a closed loop needs at least one request and one connection")
    if (duration_s is None) == (n_requests is None):
        raise ValueError("give exactly one of duration_s and n_requests")
    driver = _Driver((host, port), requests, on_answer, stall_s, protocol)
    try:
        driver.connect(connections)
        return driver.run(duration_s if duration_s is not None else float("inf"), n_requests)
    finally:
        driver.close()


class _Driver:
    """Owns the counts of one run."""

    def __init__(
        self,
        address: tuple[str, int],
        requests: Sequence[bytes],
        on_answer: OnAnswer | None,
        stall_s: float,
        protocol: Protocol,
    ) -> None:
        self._address = address
        self._requests = requests
        self._on_answer = on_answer
        self._stall_s = stall_s
        self._sockets = Sockets(address, Bodies.SKIP if on_answer is None else Bodies.KEEP, protocol)
        self._statuses: list[int] = []
        self._sent_at: list[float] = []
        self._latencies_s: list[float] = []
        self._n_in_flight = 0
        self._n_limit = float("inf")
        self._stop_at = float("inf")

    def connect(self, n: int) -> None:
        """Open `n` connections, or as many as the server takes; raises CannotConnect if that is none."""
        for _ in range(n):
            try:
                self._sockets.open(_CONNECT_TIMEOUT_S)
            except OSError as error:
                if not len(self._sockets):
                    host, port = self._address
                    raise CannotConnect(f"no connection to {host}:{port}: {error}") from error
                return

    def run(self, duration_s: float, n_requests: int | None) -> Result:
        """Send until the end is reached, then wait for the replies still out."""
        n_connections = len(self._sockets)
        self._n_limit = float("inf") if n_requests is None else n_requests
        cpu_s, started_at = time.thread_time(), time.perf_counter()
        self._stop_at = started_at + duration_s
        for connection in self._sockets:
            if self._goes_on(time.perf_counter()):
                self._send(connection)
        while self._n_in_flight and self._poll():
            pass
        return self._result(n_connections, time.perf_counter() - started_at, time.thread_time() - cpu_s)

    def close(self) -> None:
        """Close all sockets; requests in flight are left unanswered."""
        self._sockets.close_all()

    def _poll(self) -> bool:
        polled_at = time.perf_counter()
        for connection, found in self._sockets.poll(self._stall_s):
            if isinstance(found, Broken):
                self._broken(connection)
            else:
                self._finish(connection, found)
        return time.perf_counter() - polled_at < self._stall_s

    def _finish(self, connection: Connection, response: Response) -> None:
        done_at = time.perf_counter()
        head = response.head
        ordinal = connection.ordinal
        connection.ordinal = NO_REQUEST
        self._n_in_flight -= 1
        self._statuses[ordinal] = head.status
        if head.status == 200:
            self._latencies_s.append(done_at - self._sent_at[ordinal])
        if self._on_answer is not None:
            self._on_answer(ordinal % len(self._requests), head.status, head.headers, response.body)
        if head.closes or not connection.reader.idle:
            self._sockets.close(connection)
            self._replace()
        elif self._goes_on(done_at):
            self._send(connection)

    def _goes_on(self, now: float) -> bool:
        return now < self._stop_at and len(self._statuses) < self._n_limit

    def _send(self, connection: Connection) -> None:
        ordinal = len(self._statuses)
        self._statuses.append(FAILED)
        self._n_in_flight += 1
        self._sent_at.append(time.perf_counter())
        self._sockets.send(connection, ordinal, self._requests[ordinal % len(self._requests)])

    def _broken(self, connection: Connection) -> None:
        """A connection ended, which fails its request in flight."""
        self._n_in_flight -= connection.ordinal != NO_REQUEST
        self._replace()

    def _replace(self) -> None:
        """Go on with a new connection while requests are left."""
        if not self._goes_on(time.perf_counter()):
            return
        try:
            self._send(self._sockets.open(_CONNECT_TIMEOUT_S))
        except OSError:
            return  # the server takes no more connections: the others go on

    def _result(self, n_connections: int, wall_s: float, own_cpu_s: float) -> Result:
        by_status = Counter(self._statuses)
        answered, failed, timed_out = (by_status.pop(status, 0) for status in (200, FAILED, TIMED_OUT))
        latencies_s, statuses = np.array(self._latencies_s), np.array(self._statuses, dtype=np.int16)
        return Result(
            n_connections, len(statuses), answered, by_status, failed, wall_s, own_cpu_s, latencies_s, statuses, timed_out
        )
