"""Connections that misbehave: an error in V2's form or an end, in bounded time and memory; nobody else notices."""

from __future__ import annotations

import re
import resource
import select
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.child_server import ChildServer, wait_until
from tests.server.api.raw_socket import RawSocket, post

X = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}
Y = [3.0, 5.0, 7.0, 9.0]
GOOD = post({"inputs": [X]})
HEAD = b"POST /v2/models/affine/infer HTTP/1.1\r\nHost: x\r\n"
PATIENCE_S = 1.0


@pytest.fixture(scope="module")
def hasty(tiny_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChildServer]:
    """A server with little patience."""
    flags = ("--receive-timeout-s", str(PATIENCE_S), "--idle-timeout-s", "2")
    with ChildServer(tiny_repository, tmp_path_factory.mktemp("hasty") / "log", *flags) as running:
        yield running


def good(connection: RawSocket) -> None:
    reply = connection.reply()
    assert reply is not None
    assert (reply.status, reply.json["outputs"][0]["data"]) == (200, Y)


def refused(connection: RawSocket, status: int, says: str) -> None:
    """The error, and after it the end."""
    reply = connection.reply()
    assert reply is not None
    assert (reply.status, says in reply.error, reply.headers["connection"]) == (status, True, "close"), reply
    assert connection.reply() is None


NOT_HTTP = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"hello\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n",
    HEAD + b"Content-Length: -1\r\n\r\n", HEAD + b"Content-Length: 1e3\r\n\r\n", HEAD + b"Content-Length: 5, 6\r\n\r\n",
    HEAD + b"Content-Length: 99999999999999999999999\r\n\r\n", HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
    HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
    HEAD + b"Bad Header: x\r\n\r\n", HEAD + b"X: a\x00b\r\n\r\n", b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
    b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /a b HTTP/1.1\r\n\r\n",
]  # fmt: skip


@pytest.mark.parametrize("data", NOT_HTTP, ids=range(len(NOT_HTTP)))
def test_what_is_not_http_is_told_so_in_json(server: ChildServer, data: bytes) -> None:
    with RawSocket(server.port) as connection:
        connection.send(data)
        refused(connection, 400, "not HTTP")


def test_garbage_after_good_requests_waits_for_their_answers(server: ChildServer) -> None:
    with RawSocket(server.port) as connection:
        connection.send(GOOD * 3 + b"garbage\r\n\r\n" + GOOD)
        for _ in range(3):
            good(connection)
        refused(connection, 400, "not HTTP")


def test_a_broken_body_after_good_requests_waits_for_their_answers(server: ChildServer) -> None:
    with RawSocket(server.port) as connection:
        connection.send(GOOD * 2 + HEAD + b"Transfer-Encoding: chunked\r\n\r\nnot a size\r\n")
        good(connection)
        good(connection)
        refused(connection, 400, "not HTTP")


def test_pipelining_has_a_bound_and_what_was_within_it_is_answered(server: ChildServer) -> None:
    with RawSocket(server.port) as connection:
        connection.send(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n" * 2000)
        replies = []
        while (reply := connection.reply()) is not None:
            replies.append(reply)
    *fine, last = replies
    assert {reply.status for reply in fine} == {200}
    assert len(fine) >= 256
    assert len(fine) == 2000 - 1 or (last.status, "256 requests" in last.error) == (400, True)


def test_pipelined_bodies_keep_their_order_however_they_are_cut(server: ChildServer) -> None:
    requests = b"".join(post({"id": str(n), "inputs": [{**X, "data": [n] * 4}]}) for n in range(40))
    with RawSocket(server.port) as connection:
        for start in range(0, len(requests), 97):
            connection.send(requests[start : start + 97])
        for number in range(40):
            reply = connection.reply()
            assert reply is not None
            assert (reply.json["id"], reply.json["outputs"][0]["data"]) == (str(number), [2.0 * number + 1] * 4)


@pytest.mark.parametrize(
    "flood",
    [b"X-Long: " + b"a" * 70_000, b"X: y\r\n" * 12_000, b"", b"X-Long: " + b"a" * 400_000],
    ids=["long", "many", "path", "huge"],
)
def test_headers_have_a_bound(server: ChildServer, flood: bytes) -> None:
    with RawSocket(server.port) as connection:
        connection.send(HEAD if flood else b"GET /")
        connection.send(b"")
        time.sleep(0.05)  # the head must come in more than one read: one is always taken
        for start in range(0, 400_000, 20_000):
            try:
                connection.send((flood or b"a" * 400_000)[start : start + 20_000])
            except OSError:
                break
        refused(connection, 431, "65536 bytes")


def test_a_body_that_is_announced_too_large_is_refused_before_it_comes(server: ChildServer) -> None:
    with RawSocket(server.port) as connection:
        connection.send(HEAD + b"Content-Length: 200001\r\n\r\n")
        reply = connection.reply()
        assert reply is not None
        assert (reply.status, "200000 bytes" in reply.error) == (413, True)
        connection.send(bytes(200_001) + GOOD)
        good(connection)


@pytest.mark.parametrize(
    "start", [b"G", HEAD, HEAD + b"Content-Length: 100\r\n\r\n", HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n12"],
    ids=["first byte", "headers", "body", "chunks"],
)  # fmt: skip
def test_a_request_that_never_ends_is_given_up(hasty: ChildServer, start: bytes) -> None:
    with RawSocket(hasty.port) as connection:
        began = time.monotonic()
        connection.send(start)
        refused(connection, 408, "receive_timeout_s")
        assert PATIENCE_S <= time.monotonic() - began < PATIENCE_S + 5


@pytest.mark.parametrize(
    "start",
    [HEAD, HEAD + b"Content-Length: 1000\r\n\r\n", HEAD + b"Transfer-Encoding: chunked\r\n\r\n3e8\r\n", GOOD + HEAD],
    ids=["headers", "body", "chunk", "after a request"],
)
def test_dripping_buys_no_time(hasty: ChildServer, start: bytes) -> None:
    with RawSocket(hasty.port) as connection:
        connection.send(start)
        began = time.monotonic()
        try:
            while time.monotonic() - began < PATIENCE_S + 5:
                connection.send(b"x")
                time.sleep(0.05)
        except OSError:
            pass
        assert time.monotonic() - began < PATIENCE_S + 4


def test_a_slow_request_after_a_good_one_is_refused_after_its_answer(hasty: ChildServer) -> None:
    with RawSocket(hasty.port) as connection:
        connection.send(GOOD + HEAD)
        good(connection)
        refused(connection, 408, "within its time")


@pytest.mark.parametrize("first", [b"", GOOD], ids=["new", "used"])
def test_idle_connections_end(hasty: ChildServer, first: bytes) -> None:
    with RawSocket(hasty.port) as connection:
        if first:
            connection.send(first)
            good(connection)
        assert connection.reply() is None


def test_many_idle_connections_end_while_another_is_served(hasty: ChildServer) -> None:
    idle = [socket.create_connection(("127.0.0.1", hasty.port), timeout=30) for _ in range(300)]
    for number, connection in enumerate(idle):
        if number % 2:
            connection.sendall(GOOD)
    with RawSocket(hasty.port) as working:
        while idle:
            working.send(GOOD)
            good(working)
            ready = select.select(idle, [], [], 0.05)[0]
            for connection in ready:
                if not connection.recv(65536):
                    connection.close()
                    idle.remove(connection)


def test_a_client_that_reads_nothing_is_abandoned(hasty: ChildServer) -> None:
    sink = socket.socket()
    sink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sink.connect(("127.0.0.1", hasty.port))
    sink.settimeout(20)
    request = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"

    def has_ended() -> bool:
        try:
            sink.sendall(request * 20, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return False

    with sink:
        wait_until(has_ended, "the end of a connection whose answers nobody reads")


@pytest.mark.parametrize("data", [GOOD[:30], GOOD[:-5], b"", GOOD], ids=["in headers", "in body", "at once", "after a request"])
def test_a_half_closed_connection_is_a_closed_one(server: ChildServer, data: bytes) -> None:
    with RawSocket(server.port) as connection:
        connection.send(data)
        connection.half_close()
        while (reply := connection.reply()) is not None:
            assert reply.status == 200
    assert server.call("GET", "/v2/health/live").status == 200


def test_an_upgrade_is_ignored_and_the_connection_ends_with_the_answer(server: ChildServer) -> None:
    for kind in (b"websocket", b"h2c"):
        with RawSocket(server.port) as connection:
            upgrade = b"Connection: Upgrade\r\nUpgrade: " + kind + b"\r\n\r\n"
            connection.send(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n" + upgrade + b"binary")
            reply = connection.reply()
            assert reply is not None
            assert (reply.status, reply.headers["connection"]) == (200, "close")
            assert connection.reply() is None


def memory_kib(pid: int) -> int:
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_hundreds_of_idle_connections_cost_little_and_slow_nobody(server: ChildServer) -> None:
    n = min(600, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)
    server.call("GET", "/v2/health/live")
    before = memory_kib(server.process.pid)
    idle: list[Any] = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(n)]
    for number, connection in enumerate(idle):
        connection.sendall(HEAD if number % 2 else b"")
    with RawSocket(server.port) as working:
        for _ in range(50):
            working.send(GOOD)
            good(working)
    assert (memory_kib(server.process.pid) - before) / n < 64, "KiB for each connection"
    for connection in idle:
        connection.close()
