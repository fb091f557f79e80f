"""A closed-loop driver: one thread, N keep-alive connections, one request in flight on each. It knows no V2.

A closed loop measures cost and peak rate. It hides stalls: say nothing about latency under a given load with it.
"""

from __future__ import annotations

import select
import socket
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from loadtests.errors import CannotConnect, MalformedReply
from loadtests.wire import Bodies, Heads, Response, ResponseReader

OnAnswer = Callable[[int, int, Mapping[str, str], bytes], None]
"""(index into `requests`, status, headers with lower-case names, body), for each whole response of any status."""

_RECV_BYTES = 64 * 1024
_CONNECT_TIMEOUT_S = 5.0
FAILED = 0
"""Stands in `Result.statuses` for a request without a whole response."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of every request sent: `sent == answered + n_refused + failed`.

    `answered` counts status 200, `refused` the other statuses, `failed` resets, malformed replies and requests without
    a reply. `latencies_s` is float64 [answered] in order of completion, from just before the send to the last read.
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
    driver = _Driver((host, port), requests, on_answer, stall_s)
    try:
        driver.connect(connections)
        return driver.run(duration_s if duration_s is not None else float("inf"), n_requests)
    finally:
        driver.close()


class _Connection:
    """One socket and the request in flight on it."""

    __slots__ = ("ordinal", "reader", "sent_at", "sock", "unsent")

    def __init__(self, sock: socket.socket, reader: ResponseReader) -> None:
        self.sock = sock
        self.reader = reader
        self.ordinal = -1
        self.sent_at = 0.0
        self.unsent = memoryview(b"")


class _Driver:
    """Owns the sockets, the poll and the counts of one run."""

    def __init__(
        self, address: tuple[str, int], requests: Sequence[bytes], on_answer: OnAnswer | None, stall_s: float
    ) -> None:
        self._address = address
        self._requests = requests
        self._on_answer = on_answer
        self._stall_s = stall_s
        self._bodies = Bodies.SKIP if on_answer is None else Bodies.KEEP
        self._heads = Heads()
        self._epoll = select.epoll()
        self._by_fd: dict[int, _Connection] = {}
        self._statuses: list[int] = []
        self._latencies_s: list[float] = []
        self._n_in_flight = 0
        self._n_limit = float("inf")
        self._stop_at = float("inf")

    def connect(self, n: int) -> None:
        """Open `n` connections, or as many as the server takes; raises CannotConnect if that is none."""
        for _ in range(n):
            try:
                self._open()
            except OSError as error:
                if not self._by_fd:
                    host, port = self._address
                    raise CannotConnect(f"no connection to {host}:{port}: {error}") from error
                return

    def run(self, duration_s: float, n_requests: int | None) -> Result:
        """Send until the end is reached, then wait for the replies still out."""
        n_connections = len(self._by_fd)
        self._n_limit = float("inf") if n_requests is None else n_requests
        cpu_s, started_at = time.thread_time(), time.perf_counter()
        self._stop_at = started_at + duration_s
        for connection in list(self._by_fd.values()):
            if self._goes_on(time.perf_counter()):
                self._send(connection)
        while self._n_in_flight and self._poll():
            pass
        return self._result(n_connections, time.perf_counter() - started_at, time.thread_time() - cpu_s)

    def close(self) -> None:
        """Close all sockets; requests in flight are left unanswered."""
        for connection in self._by_fd.values():
            connection.sock.close()
        self._by_fd.clear()
        self._epoll.close()

    def _open(self) -> _Connection:
        sock = socket.create_connection(self._address, timeout=_CONNECT_TIMEOUT_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        connection = _Connection(sock, ResponseReader(self._bodies, self._heads))
        self._epoll.register(sock.fileno(), select.EPOLLIN)
        self._by_fd[sock.fileno()] = connection
        return connection

    def _poll(self) -> bool:
        events = self._epoll.poll(self._stall_s)
        for fd, mask in events:
            connection = self._by_fd.get(fd)
            if connection is None:
                continue
            if mask & select.EPOLLOUT:
                self._push(connection)
            if mask & ~select.EPOLLOUT:
                self._receive(connection)
        return bool(events)

    def _receive(self, connection: _Connection) -> None:
        try:
            data = connection.sock.recv(_RECV_BYTES)
            response = connection.reader.feed(data) if data else None
        except BlockingIOError:
            return
        except (OSError, MalformedReply):
            self._replace(connection)
            return
        if response is not None:
            self._finish(connection, response)
        elif not data:
            self._replace(connection)

    def _finish(self, connection: _Connection, response: Response) -> None:
        done_at = time.perf_counter()
        if connection.ordinal < 0 or connection.unsent:
            self._replace(connection)  # a reply to nothing, or to half a request
            return
        head = response.head
        ordinal = connection.ordinal
        connection.ordinal = -1
        self._n_in_flight -= 1
        self._statuses[ordinal] = head.status
        if head.status == 200:
            self._latencies_s.append(done_at - connection.sent_at)
        if self._on_answer is not None:
            self._on_answer(ordinal % len(self._requests), head.status, head.headers, response.body)
        if head.closes or not connection.reader.idle:
            self._replace(connection)
        elif self._goes_on(done_at):
            self._send(connection)

    def _goes_on(self, now: float) -> bool:
        return now < self._stop_at and len(self._statuses) < self._n_limit

    def _send(self, connection: _Connection) -> None:
        request = self._requests[len(self._statuses) % len(self._requests)]
        connection.ordinal = len(self._statuses)
        self._statuses.append(FAILED)
        self._n_in_flight += 1
        connection.sent_at = time.perf_counter()
        try:
            n_sent = connection.sock.send(request)
        except BlockingIOError:
            n_sent = 0
        except OSError:
            return  # the poll reports the broken socket, and there the request fails
        if n_sent < len(request):
            connection.unsent = memoryview(request)[n_sent:]
            self._epoll.modify(connection.sock.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def _push(self, connection: _Connection) -> None:
        try:
            connection.unsent = connection.unsent[connection.sock.send(connection.unsent) :]
        except BlockingIOError:
            return
        except OSError:
            connection.unsent = memoryview(b"")
        if not connection.unsent:
            self._epoll.modify(connection.sock.fileno(), select.EPOLLIN)

    def _replace(self, connection: _Connection) -> None:
        """Close a connection, which fails its request in flight, and go on with a new one while requests are left."""
        self._n_in_flight -= connection.ordinal >= 0
        del self._by_fd[connection.sock.fileno()]
        connection.sock.close()
        if not self._goes_on(time.perf_counter()):
            return
        try:
            self._send(self._open())
        except OSError:
            return  # the server takes no more connections: the others go on

    def _result(self, n_connections: int, wall_s: float, own_cpu_s: float) -> Result:
        by_status = Counter(self._statuses)
        answered, failed = by_status.pop(200, 0), by_status.pop(FAILED, 0)
        latencies_s, statuses = np.array(self._latencies_s), np.array(self._statuses, dtype=np.int16)
        return Result(
            n_connections, len(statuses), answered, by_status, failed, wall_s, own_cpu_s, latencies_s, statuses
        )
