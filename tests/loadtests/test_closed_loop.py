from __future__ import annotations

import random
import socket
import threading
from collections import Counter
from collections.abc import Mapping

import pytest

from loadtests.closed_loop import FAILED, Result, drive
from loadtests.errors import CannotConnect
from tests.loadtests.conftest import Serve

HOST = "127.0.0.1"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BUSY = b"HTTP/1.1 503 Busy\r\nContent-Length: 16\r\n\r\n" + b'{"error":"busy"}'


def request(body: bytes) -> bytes:
    return b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def body_of(whole: bytes) -> bytes:
    return whole.partition(b"\r\n\r\n")[2]


def check(result: Result) -> None:
    """The laws of every run."""
    assert result.sent == result.answered + result.n_refused + result.failed == len(result.statuses)
    by_status = Counter(result.statuses.tolist())
    assert by_status.pop(200, 0) == result.answered == len(result.latencies_s)
    assert by_status.pop(FAILED, 0) == result.failed
    assert by_status == result.refused
    assert (result.latencies_s >= 0).all()


def test_every_request_is_sent_once_and_answered(serve: Serve) -> None:
    got: Counter[bytes] = Counter()

    def script(number: int, whole: bytes) -> list[bytes]:
        got[body_of(whole)] += 1
        return [OK]

    result = drive(HOST, serve(script).port, [request(b"a"), request(b"bb")], connections=5, n_requests=101)
    check(result)
    assert (result.sent, result.answered, result.connections) == (101, 101, 5)
    assert got == {b"a": 51, b"bb": 50}
    assert result.p50 <= result.p99
    assert result.throughput > 0


@pytest.mark.parametrize("seed", range(3))
def test_counts_add_up_when_a_server_refuses_and_drops(serve: Serve, seed: int) -> None:
    rng = random.Random(seed)
    kinds: Counter[str] = Counter()

    replies = {
        "ok": [OK],
        "busy": [BUSY],
        "drop": [b""],
        "half": [OK[:20], b""],
        "junk": [b"junk\r\n\r\n"],
        "twice": [OK + OK],
    }

    def script(number: int, whole: bytes) -> list[bytes]:
        kind = rng.choices(list(replies), [50, 30, 8, 4, 4, 4])[0]
        kinds[kind] += 1
        return replies[kind]

    result = drive(HOST, serve(script).port, [request(b"a")], connections=8, n_requests=600)
    check(result)
    assert result.sent == 600
    assert result.refused == {503: kinds["busy"]}
    assert result.failed == kinds["drop"] + kinds["half"] + kinds["junk"]
    assert result.answered == kinds["ok"] + kinds["twice"]


def test_answers_are_handed_over_with_the_index_of_their_request(serve: Serve) -> None:
    requests = [request(str(n).encode()) for n in range(7)]
    seen: Counter[tuple[int, int, bytes]] = Counter()

    def script(number: int, whole: bytes) -> list[bytes]:
        body = body_of(whole)
        reply = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nX: Y\r\n\r\n%b" % (len(body), body)
        return [reply[:9], reply[9:-1], reply[-1:]]

    def on_answer(index: int, status: int, headers: Mapping[str, str], body: bytes) -> None:
        assert headers["x"] == "Y"
        seen[index, status, body] += 1

    result = drive(HOST, serve(script).port, requests, connections=3, n_requests=70, on_answer=on_answer)
    check(result)
    assert seen == {(n, 200, str(n).encode()): 10 for n in range(7)}


def test_large_bodies_go_both_ways(serve: Serve) -> None:
    big = bytes(range(256)) * 16_000
    sizes: list[int] = []

    def script(number: int, whole: bytes) -> list[bytes]:
        sizes.append(len(body_of(whole)))
        return [b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(big), big]

    bodies: list[bool] = []
    port = serve(script).port
    check(drive(HOST, port, [request(big)], connections=2, n_requests=4))

    def on_answer(index: int, status: int, headers: Mapping[str, str], body: bytes) -> None:
        bodies.append(body == big)

    result = drive(HOST, port, [request(big)], connections=2, n_requests=4, on_answer=on_answer)
    check(result)
    assert result.answered == 4
    assert sizes == [len(big)] * 8
    assert bodies == [True] * 4


def test_a_server_that_closes_after_each_answer_fails_nothing(serve: Serve) -> None:
    closing = OK.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
    result = drive(HOST, serve(lambda number, whole: [closing]).port, [request(b"")], connections=3, n_requests=30)
    check(result)
    assert result.answered == 30


def test_a_run_may_be_bounded_by_time(serve: Serve) -> None:
    result = drive(HOST, serve(lambda number, whole: [OK]).port, [request(b"")], connections=3, duration_s=0.05)
    check(result)
    assert result.answered == result.sent > 0


def test_a_server_that_goes_silent_ends_the_run(serve: Serve) -> None:
    result = drive(
        HOST, serve(lambda number, whole: [OK] if number < 10 else []).port, [request(b"")],
        connections=4, n_requests=1_000, stall_s=0.1,
    )  # fmt: skip
    check(result)
    assert (result.answered, result.failed) == (10, 4)


def test_a_server_that_goes_away_ends_the_run() -> None:
    listener = socket.create_server((HOST, 0))

    def answer_ten() -> None:
        sock, _ = listener.accept()
        listener.close()
        for _ in range(10):
            sock.recv(1_000)
            sock.sendall(OK)
        sock.close()

    thread = threading.Thread(target=answer_ten)
    thread.start()
    result = drive(HOST, listener.getsockname()[1], [request(b"")], connections=1, n_requests=1_000)
    thread.join()
    check(result)
    assert (result.sent, result.answered, result.failed) == (11, 10, 1)


def test_no_server_is_one_clear_error() -> None:
    with socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(CannotConnect, match=f"no connection to {HOST}:{port}"):
        drive(HOST, port, [request(b"")], connections=2, n_requests=1)


def test_impossible_orders_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        drive(HOST, 1, [], connections=1, n_requests=1)
    with pytest.raises(ValueError, match="exactly one"):
        drive(HOST, 1, [b"x"], connections=1)


def test_a_run_without_answers_has_no_latency(serve: Serve) -> None:
    result = drive(HOST, serve(lambda number, whole: [BUSY]).port, [request(b"")], connections=1, n_requests=3)
    check(result)
    assert result.p50 != result.p50
    assert result.throughput == 0
