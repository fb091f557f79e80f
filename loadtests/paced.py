"""A small V2 server whose truth is known: a device that sleeps a x b + c and uses no CPU, that stalls or refuses as told.

`python -m loadtests.paced PORT --per-row-ms 1 --per-batch-ms 4`; it batches by back-pressure and is no benchmark peer.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import re
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import orjson

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_ANSWER = orjson.dumps({"model_name": "paced", "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 1], "data": [1.0]}]})
_META = {
    "name": "paced",
    "versions": ["1"],
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 1]}],
}
Reply = Callable[[bytes], None]


@dataclass(frozen=True, slots=True)
class Pace:
    """`per_row_s` x rows + `per_batch_s` for a batch of at most `max_rows`; none starts in the first `stall_s` of every
    `period_s`; of 100 requests `refuse` are refused at once. The process ends without a word at request `die_after`."""

    per_row_s: float = 1e-3
    per_batch_s: float = 4e-3
    max_rows: int = 32
    stall_s: float = 0.0
    period_s: float = math.inf
    refuse: int = 0
    die_after: int | None = None

    def batch_s(self, rows: int) -> float:
        """How long the device takes."""
        return self.per_row_s * rows + self.per_batch_s

    def stalled_until(self, at_s: float) -> float:
        """When work that comes at `at_s` may start, in seconds from the server's first request."""
        into_s = at_s % self.period_s
        return at_s + self.stall_s - into_s if into_s < self.stall_s else at_s


@dataclass(slots=True)
class Device:
    """The waiting requests, and the one batch that is on the device."""

    pace: Pace
    waiting: deque[Reply] = field(default_factory=deque)
    busy: bool = False
    n_seen: int = 0
    free_at: float = 0.0
    first_at: float | None = None

    def submit(self, reply: Reply) -> None:
        """Take a request: refuse it, or let it wait for the device."""
        self.n_seen += 1
        if self.n_seen == self.pace.die_after:
            os._exit(1)
        if self.first_at is None:
            self.first_at = time.perf_counter()
        if self.n_seen * 37 % 100 < self.pace.refuse:
            reply(_http(b"503 Service Unavailable", b'{"error":"queue is full"}'))
            return
        self.waiting.append(reply)
        if not self.busy:
            self._start(time.perf_counter())

    def _start(self, now: float) -> None:
        """Begin a batch at `now`, which may lie a little in the past: late timers must not slow the device down."""
        assert self.first_at is not None
        rows = min(len(self.waiting), self.pace.max_rows)
        batch = [self.waiting.popleft() for _ in range(rows)]
        starts_at = self.first_at + self.pace.stalled_until(now - self.first_at)
        self.free_at = starts_at + self.pace.batch_s(rows)
        self.busy = True
        delay_s = max(0.0, self.free_at - time.perf_counter())
        asyncio.get_running_loop().call_later(delay_s, self._done, batch)

    def _done(self, batch: list[Reply]) -> None:
        self.busy = False
        for reply in batch:
            reply(_http(b"200 OK", _ANSWER))
        if self.waiting:
            self._start(self.free_at)


class Protocol(asyncio.Protocol):
    """HTTP/1.1 as far as load generators speak it."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end]
            found = _LENGTH.search(head)
            size = end + 4 + (int(found[1]) if found else 0)
            if len(self._buffer) < size:
                return
            self._buffer = self._buffer[size:]
            self._answer(head)

    def _answer(self, head: bytes) -> None:
        line = head.partition(b"\r\n")[0]
        if line.startswith(b"POST") and b"/models/paced" in line and b"/infer" in line:
            self._device.submit(self._write)
        elif line.startswith(b"GET /v2/health"):
            self._write(_http(b"200 OK", b"{}"))
        elif line.startswith(b"GET /v2/models/paced"):
            self._write(_http(b"200 OK", orjson.dumps(_META)))
        else:
            self._write(_http(b"404 Not Found", b'{"error":"unknown model"}'))

    def _write(self, reply: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(reply)


def _http(status: bytes, body: bytes) -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


async def serve(port: int, pace: Pace) -> None:
    """Serve on a loopback port until cancelled."""
    device = Device(pace)
    server = await asyncio.get_running_loop().create_server(lambda: Protocol(device), "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser("python -m loadtests.paced", description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("--per-row-ms", type=float, default=1.0)
    parser.add_argument("--per-batch-ms", type=float, default=4.0)
    parser.add_argument("--max-rows", type=int, default=32)
    parser.add_argument("--stall-s", type=float, default=0.0)
    parser.add_argument("--period-s", type=float, default=math.inf)
    parser.add_argument("--refuse", type=int, default=0, help="of 100 requests")
    parser.add_argument("--die-after", type=int, help="requests")
    args = parser.parse_args()
    pace = Pace(
        per_row_s=args.per_row_ms / 1e3,
        per_batch_s=args.per_batch_ms / 1e3,
        max_rows=args.max_rows,
        stall_s=args.stall_s,
        period_s=args.period_s,
        refuse=args.refuse,
        die_after=args.die_after,
    )
    asyncio.run(serve(args.port, pace))


if __name__ == "__main__":
    main()
