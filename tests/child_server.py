"""A real `ferry serve` in a process of its own, and the plainest possible HTTP client for it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

START_S = 30.0


@dataclass(frozen=True, slots=True)
class Reply:
    """A response; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The text of a V2 error, after checking its form."""
        assert self.headers["content-type"] == "application/json", self
        assert set(self.json) == {"error"}, self
        assert isinstance(self.json["error"], str)
        assert self.json["error"]
        return str(self.json["error"])


def call(
    connection: HTTPConnection, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
) -> Reply:
    """One request; a dict or list is sent as JSON."""
    data = json.dumps(body).encode() if isinstance(body, (dict, list)) else body
    connection.request(method, path, data, dict(headers or {}))
    response = connection.getresponse()
    return Reply(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())


def wait_until(true: Callable[[], bool], what: str, limit_s: float = START_S) -> None:
    """Bounded polling for a state. Raises AssertionError naming `what`."""
    until = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < until, f"never came about: {what}"
        time.sleep(0.005)


class ChildServer:
    """`ferry serve` on a free port of the loopback interface; a context manager."""

    def __init__(self, repository: Path, log: Path, *flags: str, **environment: str) -> None:
        self._command = [sys.executable, "-m", "server.cli", "serve", "--repository", str(repository), *flags]
        if "--port" not in flags:
            self._command += ["--port", "0"]
        if "--grpc-port" not in flags:
            self._command += ["--grpc-port", "0"]
        if "--metrics-port" not in flags:
            self._command += ["--metrics-port", "0"]
        clean = {name: value for name, value in os.environ.items() if not name.startswith("FERRY_")}
        self._environment = clean | {"FERRY_RECORDINGS": "off"} | environment
        self._log = log
        self.port = 0
        self.grpc_port = 0

    def __enter__(self) -> ChildServer:
        self.spawn()
        wait_until(lambda: self._has_started() or self.process.poll() is not None, "the server's start")
        assert self.process.poll() is None, self.log
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def spawn(self) -> None:
        """Start without waiting for it to serve."""
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log, env=self._environment)

    @property
    def log(self) -> str:
        return self._log.read_text()

    def connect(self, timeout_s: float = 30.0) -> HTTPConnection:
        return HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)

    def call(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Reply:
        """One request on a connection of its own."""
        connection = self.connect()
        try:
            return call(connection, method, path, body, headers)
        finally:
            connection.close()

    def metrics(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        """Every sample of /metrics by (name, sorted labels)."""
        from prometheus_client.parser import text_string_to_metric_families

        text = self.call("GET", "/metrics").body.decode()
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        return {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for sample in samples}

    def stop(self) -> int:
        """SIGTERM, and the exit status. Harmless when it has ended."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(START_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def _has_started(self) -> bool:
        found = re.search(r"running on http://[^ ]*:(\d+)", self.log)
        self.port = int(found[1]) if found else 0
        grpc = re.search(r"gRPC running on [^ ]*:(\d+)", self.log)
        self.grpc_port = int(grpc[1]) if grpc else 0
        return found is not None
