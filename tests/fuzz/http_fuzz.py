"""The HTTP fuzzer: `python -m tests.fuzz.http_fuzz --n 1000000 --seed 0` starts a server and sends it bad requests.

Fails on a 5xx that the input caused, a hang, a wrong or missing answer, another request's data, a crash, or growing memory.
A request follows from seed and number; `--first NUMBER --n 1` sends the one that failed once more.
"""

from __future__ import annotations

import argparse
import json
import re
import socket
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

from tests.child_server import ChildServer
from tests.fuzz.memory import MemoryLog, write_result
from tests.fuzz.requests import broken, canary, fuzzed
from tests.fuzz.shared_memory import Mischief

HANG_S = 20.0
BATCH = 16
LEGAL_5XX = {501, 503}
"""What is not offered; a request whose own timeout has become too short."""

MOST_GROWTH_MIB = 48.0
LOOK_EVERY = 10_000
"""Requests between two looks at the server's log."""

_STATUS = re.compile(rb"HTTP/1\.1 (\d\d\d)")
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)")
_ID = re.compile(rb'"id":"(f-\d+)"')


class Failure(Exception):
    """What the server must not do; the message has the number of the request."""


class Replies:
    """A connection, and the replies that come back on it in order."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=HANG_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray()

    def send(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return  # the server has said why, or will be found out to have said nothing

    def end_sending(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            return  # it was faster

    def next(self) -> tuple[int, bytes, bool] | None:
        """Status, body and whether the connection ends with it; None at the end. Interim replies are passed over."""
        while True:
            end = self._read_until_blank_line()
            if end is None:
                return None
            head = bytes(self._buffer[:end])
            status = _STATUS.match(head)
            if status is None:
                raise Failure(f"a reply begins with {head[:60]!r}")
            length = _LENGTH.search(head)
            size = int(length[1]) if length else 0
            while len(self._buffer) < end + 4 + size:
                if not self._fill():
                    raise Failure("a reply was cut off")
            body = bytes(self._buffer[end + 4 : end + 4 + size])
            del self._buffer[: end + 4 + size]
            if int(status[1]) >= 200:
                return int(status[1]), body, b"\r\nconnection: close" in head

    def close(self) -> None:
        self._socket.close()

    def _read_until_blank_line(self) -> int | None:
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if not self._fill():
                return None
        return end

    def _fill(self) -> bool:
        try:
            data = self._socket.recv(262_144)
        except ConnectionResetError:
            return False
        except TimeoutError:
            raise Failure(f"no reply within {HANG_S:g} s") from None
        self._buffer += data
        return bool(data)


class Fuzzer:
    """Sends and judges; `statuses` counts what came back."""

    def __init__(self, port: int, seed: int) -> None:
        self._port = port
        self._seed = seed
        self._connection = Replies(port)
        self.statuses: Counter[str] = Counter()

    def framed(self, first: int) -> int:
        """A batch of requests that are owed one reply each, canaries among them; how many were sent."""
        sent: list[tuple[int, bytes, list[float] | None]] = []
        for number in range(first, first + BATCH):
            data, wanted = canary(number) if number % 8 == 0 else (fuzzed(self._seed, number), None)
            sent.append((number, data, wanted))
        self._connection.send(b"".join(data for _, data, _ in sent))
        for number, data, wanted in sent:
            reply = self._connection.next()
            if reply is None:
                raise Failure(f"request {number}: the connection ended without a reply")
            self._judge(number, data, wanted, *reply[:2])
            if reply[2]:  # not HTTP after all; what followed it was not read
                self._connection.close()
                self._connection = Replies(self._port)
                return number - first + 1
        return BATCH

    def unframed(self, number: int) -> int:
        """One request that may lie about its frame, on a connection of its own, which must come to an end."""
        data, n_replies = broken(self._seed, number), 0
        with closing(Replies(self._port)) as connection:
            connection.send(data)
            connection.end_sending()
            while (reply := connection.next()) is not None:
                self._judge(number, data, None, *reply[:2])
                n_replies += 1
        if not n_replies:
            self.statuses["ended"] += 1
        return 1

    def close(self) -> None:
        self._connection.close()

    def _judge(self, number: int, data: bytes, wanted: list[float] | None, status: int, body: bytes) -> None:
        self.statuses[str(status)] += 1
        if status >= 500 and status not in LEGAL_5XX:
            raise Failure(f"request {number}: {status} {body[:300]!r}")
        if wanted is not None:
            answer = json.loads(body)
            if status != 200 or answer["id"] != f"f-{number}" or answer["outputs"][0]["data"] != wanted:
                raise Failure(f"request {number}, which is a good one: {status} {body[:300]!r}")
            return
        if status >= 400 and not _is_error(body):
            raise Failure(f"request {number}: {status} without an error body: {body[:300]!r}")
        found = _ID.search(body) if status == 200 else None
        is_packed = b"gzip" in data or b"deflate" in data  # a mangled id cannot be seen in there
        if found and found[1] != b"f-%d" % number and found[1] not in data and not is_packed:
            raise Failure(f"request {number} got the answer of {found[1]!r}")


def _is_error(body: bytes) -> bool:
    """V2's form, or OpenAI's."""
    try:
        content = json.loads(body)
    except ValueError:
        return False
    if not isinstance(content, dict) or list(content) != ["error"]:
        return False
    text = content["error"]
    if isinstance(text, dict) and list(text) == ["message", "type", "param", "code"]:
        text = text["message"]
    return isinstance(text, str) and bool(text)


def fuzz(server: ChildServer, n: int, seed: int, first: int = 0) -> dict[str, object]:
    """Send `n` requests and tell what came back. Raises Failure."""
    fuzzer = Fuzzer(server.port, seed)
    done, looks, began, memory = 0, 0, time.monotonic(), MemoryLog(server.process.pid, n)
    while done < n:
        number = first + done
        done += fuzzer.unframed(number) if (number // BATCH) % 4 == 3 else fuzzer.framed(number)
        memory.after(done)
        if done // LOOK_EVERY > looks:
            looks += 1
            _check_log(server.log)
        if server.process.poll() is not None:
            raise Failure(f"the server died with {server.process.returncode} at request {first + done}")
    fuzzer.close()
    took_s = time.monotonic() - began
    grown_mib = memory.end()
    if grown_mib > MOST_GROWTH_MIB:
        raise Failure(f"memory grew by {grown_mib:.1f} MiB")
    _check_log(server.log)
    return {
        "requests": done, "seed": seed, "first": first, "seconds": round(took_s, 1), "per_second": round(done / took_s),
        "statuses": dict(sorted(fuzzer.statuses.items())), "memory": memory.readings, "grown_mib": round(grown_mib, 1),
    }  # fmt: skip


def _check_log(log: str) -> None:
    """A client that has gone does not see a 500; the log does."""
    for sign in ("a bug in ferry", "Traceback"):
        if sign in log:
            raise Failure(f"the log has {sign!r}: {log[-3000:]}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--n", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--out", type=Path, help="file for the report")
    args = parser.parse_args()
    from tests.models import publish_all

    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder) / "repository"
        repository.mkdir()
        publish_all(repository)
        flags = ("--max-body-bytes", "200000", "--shared-memory", "on")
        with ChildServer(repository, Path(folder) / "log", *flags) as server, Mischief(args.seed) as mischief:
            try:
                report = fuzz(server, args.n, args.seed, args.first) | {"objects_damaged": mischief.n_done}
            except Failure as failure:
                print(f"FAILED with --seed {args.seed}: {failure}", file=sys.stderr)
                return 1
    print(json.dumps(report, indent=1))
    if args.out:
        write_result(args.out, report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
