"""A short fuzz run, and the proof that the fuzzer would notice what it looks for."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.child_server import ChildServer
from tests.fuzz import http_fuzz
from tests.fuzz.http_fuzz import Failure, Fuzzer, fuzz
from tests.fuzz.requests import fuzzed
from tests.fuzz.shared_memory import Mischief

Answer = Callable[[bytes], bytes]
Fake = Callable[[Answer], int]

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")


def test_bad_requests_of_every_kind_harm_nobody(sharing_server: ChildServer) -> None:
    with Mischief(seed=1) as mischief:
        report = fuzz(sharing_server, n=2000, seed=1)
    sharing_server.call("POST", "/v2/systemsharedmemory/unregister")
    assert mischief.n_done > 0
    statuses = report["statuses"]
    assert isinstance(statuses, dict)
    assert {"200", "400", "404", "405"} <= set(statuses), report


def test_a_request_follows_from_its_number() -> None:
    assert [fuzzed(3, number) for number in range(50)] == [fuzzed(3, number) for number in range(50)]
    assert fuzzed(3, 7) != fuzzed(4, 7)


@pytest.fixture
def fake() -> Iterator[Fake]:
    """Servers that answer whatever comes with what `answer` makes of it; their ports."""
    listening: list[socket.socket] = []

    def start(answer: Answer) -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        listening.append(listener)

        def talk(connection: socket.socket) -> None:
            with connection:
                data = connection.recv(1 << 20)
                if data:
                    connection.sendall(answer(data))
                while data:
                    data = connection.recv(1 << 16)

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=talk, args=(connection,), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        return int(listener.getsockname()[1])

    yield start
    for listener in listening:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def reply(status: int, body: bytes) -> bytes:
    return b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n" % (status, len(body)) + body


RIGHT = {"id": "f-0", "outputs": [{"data": [1.0, 3.0, -3.0, 2.0]}]}
WRONG: dict[str, tuple[bytes, str]] = {
    "a 500": (reply(500, b'{"error":"x"}'), "500"),
    "a canary refused": (reply(400, b'{"error":"x"}'), "which is a good one"),
    "another one's answer": (reply(200, json.dumps({**RIGHT, "id": "f-9"}).encode()), "which is a good one"),
    "wrong numbers": (reply(200, json.dumps({**RIGHT, "outputs": [{"data": [0, 0, 0, 0]}]}).encode()), "which is a good one"),
    "another one's id": (reply(200, json.dumps(RIGHT).encode()) + reply(200, b'{"id":"f-77"}'), "answer of b'f-77'"),
    "an error without a body": (reply(200, json.dumps(RIGHT).encode()) + reply(400, b""), "without an error body"),
    "an error of another form": (
        reply(200, json.dumps(RIGHT).encode()) + reply(400, b'{"detail":"x"}'),
        "without an error body",
    ),
    "not HTTP": (b"hello\r\n\r\n", "begins with"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_a_server_must_not_answer_is_noticed(fake: Fake, what: str) -> None:
    answer, says = WRONG[what]
    fuzzer = Fuzzer(fake(lambda _: answer), seed=0)
    with pytest.raises(Failure, match=says):
        fuzzer.framed(0)
    fuzzer.close()


def test_a_reply_that_is_cut_off_is_noticed(fake: Fake) -> None:
    fuzzer = Fuzzer(fake(lambda _: reply(200, b"abcdef")[:-3]), seed=0)
    with pytest.raises(Failure, match="cut off"):
        fuzzer.unframed(0)
    fuzzer.close()


def test_silence_is_noticed(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_fuzz, "HANG_S", 0.2)
    fuzzer = Fuzzer(fake(lambda _: b""), seed=0)
    with pytest.raises(Failure, match="no reply within"):
        fuzzer.framed(0)
    fuzzer.close()
