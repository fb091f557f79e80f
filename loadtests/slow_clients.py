"""Clients that send their requests in small pieces: a server must not let them hold up the others."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Self

_STEP_S = 0.05


@dataclass(slots=True)
class SlowCounts:
    """What the slow clients saw. Mutable while they run."""

    n_clients: int
    completed: int = 0
    closed_by_server: int = 0
    not_connected: int = 0


class _Slow:
    """One slow client: a piece of its request every step, then it waits for the answer and starts again."""

    def __init__(self, sock: socket.socket, request: bytes, n_pieces: int) -> None:
        self._sock = sock
        self._request = request
        self._size = max(1, len(request) // n_pieces)
        self._at = 0

    @classmethod
    def open(cls, address: tuple[str, int], request: bytes, n_pieces: int) -> Self:
        sock = socket.create_connection(address, timeout=1.0)
        sock.setblocking(False)
        return cls(sock, request, n_pieces)

    def step(self) -> int | None:
        """Go on; the number of whole answers (0 or 1), or None when the server closed the connection."""
        with suppress(BlockingIOError):
            if self._at < len(self._request):
                self._at += self._sock.send(self._request[self._at : self._at + self._size])
                return 0
            if not self._sock.recv(1 << 20):
                return None
            self._at = 0
            return 1
        return 0

    def close(self) -> None:
        self._sock.close()


@contextmanager
def slow_clients(address: tuple[str, int], request: bytes, n: int, request_s: float) -> Iterator[SlowCounts]:
    """`n` clients that take `request_s` to send each request, in a thread of their own, until the context ends."""
    counts, stop = SlowCounts(n), threading.Event()
    thread = threading.Thread(target=_run, args=(address, request, request_s, counts, stop), daemon=True)
    thread.start()
    try:
        yield counts
    finally:
        stop.set()
        thread.join()


def _run(address: tuple[str, int], request: bytes, request_s: float, counts: SlowCounts, stop: threading.Event) -> None:
    n_pieces = max(1, round(request_s / _STEP_S))
    clients: list[_Slow] = []
    while not stop.is_set():
        began_at = time.perf_counter()
        while len(clients) < counts.n_clients:
            try:
                clients.append(_Slow.open(address, request, n_pieces))
            except OSError:
                counts.not_connected += 1
                break
        clients = [one for one in clients if _stays(one, counts)]
        stop.wait(max(0.0, _STEP_S - (time.perf_counter() - began_at)))
    for one in clients:
        one.close()


def _stays(client: _Slow, counts: SlowCounts) -> bool:
    try:
        n_answers = client.step()
    except OSError:
        n_answers = None
    if n_answers is None:
        counts.closed_by_server += 1
        client.close()
        return False
    counts.completed += n_answers
    return True
