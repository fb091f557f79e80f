"""Clients that ask a server in closed loops and keep books of what became of each request."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from typing import Any

from tests.child_server import ChildServer, call, wait_until

INFER = "/v2/models/affine/infer"
X: dict[str, Any] = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}
RIGHT = [3.0, 5.0, 7.0, 9.0]
BODY = json.dumps(X).encode()
N_CLIENTS = 12


class Load:
    """Closed loops that note what became of each request. A request that gets no outcome within 30 s is told as silence."""

    def __init__(self, server: ChildServer) -> None:
        self._server = server
        self._stop = threading.Event()
        self.outcomes: Counter[str] = Counter()
        self.n_sent = 0
        self._books = threading.Lock()
        self._threads = [threading.Thread(target=self._work) for _ in range(N_CLIENTS)]

    @contextmanager
    def running(self) -> Iterator[Load]:
        for thread in self._threads:
            thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join()

    def answered(self, more: int) -> None:
        """Wait for so many right answers more."""
        target = self.outcomes["answered"] + more
        wait_until(lambda: self.outcomes["answered"] >= target, f"{more} answers", 60.0)

    def _work(self) -> None:
        connection = self._server.connect()
        while not self._stop.is_set():
            with self._books:
                self.n_sent += 1
            outcome = self._ask(connection)
            with self._books:
                self.outcomes[outcome] += 1
            if outcome != "answered":
                connection.close()
                time.sleep(0.02)
        connection.close()

    def _ask(self, connection: HTTPConnection) -> str:
        try:
            reply = call(connection, "POST", INFER, BODY)
        except TimeoutError:
            return "silence"
        except (OSError, HTTPException):
            return "reset"  # told at once: the connection is gone
        if reply.status == 200:
            return "answered" if reply.json["outputs"][0]["data"] == RIGHT else "wrong"
        if reply.status == 503 and int(reply.headers["retry-after"]) >= 1 and "try again" in reply.error:
            return "retryable"
        return f"status {reply.status}"
