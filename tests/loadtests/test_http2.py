"""HTTP/2 byte by byte: frames in any split, windows, pings, ends of all kinds."""

from __future__ import annotations

from typing import Any

import pytest
from hpack import Encoder
from hypothesis import given
from hypothesis import strategies as st

from loadtests import http2
from loadtests.errors import MalformedReply
from loadtests.http2 import CallReader, call_request, frame
from loadtests.ledger import FAILED, TIMED_OUT
from loadtests.wire import Bodies, Response

FIELDS = [(":status", "200"), ("content-type", "application/grpc")]
OPEN = {":method": "POST", ":path": "/s/M"}


def block(*fields: tuple[str, str], huffman: bool = False) -> bytes:
    return Encoder().encode([(*field, True) for field in fields], huffman=huffman)


def reply(message: bytes = b"hello", status: str = "0", text: str = "", stream: int = 1) -> bytes:
    trailers = [("grpc-status", status), *([("grpc-message", text)] if text else [])]
    return b"".join((
        frame(http2.SETTINGS, 0, 0, b""),
        frame(http2.HEADERS, http2.END_HEADERS, stream, block(*FIELDS)),
        frame(http2.DATA, 0, stream, b"\0" + len(message).to_bytes(4, "big") + message) if message else b"",
        frame(http2.HEADERS, http2.END_HEADERS | http2.END_STREAM, stream, block(*trailers, huffman=True)),
    ))  # fmt: skip


def sent(data: bytes) -> list[tuple[int, int, int, bytes]]:
    """The frames in bytes: kind, flags, stream, payload."""
    frames = []
    while data:
        end = 9 + int.from_bytes(data[:3], "big")
        frames.append((data[3], data[4], int.from_bytes(data[5:9], "big"), data[9:end]))
        data = data[end:]
    return frames


def calling(message: bytes = b"x", **kwargs: Any) -> CallReader:
    reader = CallReader(**kwargs)
    reader.outgoing(call_request(OPEN, message))
    return reader


def told(data: bytes, **kwargs: Any) -> Response:
    found = calling(**kwargs).feed(data)
    assert found is not None
    return found


@given(st.lists(st.integers(1, 40), max_size=8))
def test_a_reply_is_the_same_whatever_the_splits(sizes: list[int]) -> None:
    data, reader, found = reply(), calling(), []
    for size in [*sizes, len(data)]:
        found.append(reader.feed(data[:size]))
        data = data[size:]
    (response,) = [one for one in found if one is not None]
    assert (response.status, response.body, response.head.closes) == (200, b"hello", False)


def test_calls_follow_each_other_on_a_connection() -> None:
    reader = CallReader()
    assert reader.start().startswith(b"PRI * HTTP/2.0")
    for stream in (1, 3, 5):
        head, data = sent(reader.outgoing(call_request(OPEN, b"abc")))
        assert (head[:3], data) == ((1, http2.END_HEADERS, stream), (0, http2.END_STREAM, stream, b"\0\0\0\0\3abc"))
        found = reader.feed(reply(stream=stream))
        assert found is not None
        assert found.body == b"hello"
        assert reader.idle


@pytest.mark.parametrize(("bodies", "kept"), [(Bodies.KEEP, b"hello"), (Bodies.SKIP, b""), (Bodies.ERRORS, b"")])
def test_answers_are_kept_as_told(bodies: Bodies, kept: bytes) -> None:
    assert told(reply(), bodies=bodies).body == kept


@pytest.mark.parametrize(
    ("code", "status", "reason"),
    [
        ("14", 503, "UNAVAILABLE: too late"), ("8", 429, "RESOURCE_EXHAUSTED: too late"), ("3", 400, "INVALID_ARGUMENT: too late"),
        ("4", TIMED_OUT, "DEADLINE_EXCEEDED: too late"), ("13", FAILED, "INTERNAL: too late"), ("77", FAILED, "status '77': too late"),
        ("²", FAILED, "status '²': too late"),
    ],
)  # fmt: skip
def test_statuses_become_what_the_ledger_counts(code: str, status: int, reason: str) -> None:
    found = told(reply(b"", code, "too%20late"), bodies=Bodies.SKIP)
    assert (found.status, found.body.decode()) == (status, reason)


def test_pings_and_settings_are_acknowledged() -> None:
    reader = calling()
    reader.feed(frame(http2.PING, 0, 0, b"12345678") + frame(http2.SETTINGS, 0, 0, b""))
    assert sent(reader.owed) == [(http2.PING, http2.ACK, 0, b"12345678"), (http2.SETTINGS, http2.ACK, 0, b"")]
    reader.owed = b""
    reader.feed(frame(http2.PING, http2.ACK, 0, b"12345678") + frame(http2.SETTINGS, http2.ACK, 0, b"") + frame(99, 0, 0, b"?"))
    assert reader.owed == b""


def test_large_calls_wait_for_the_servers_windows() -> None:
    reader, message = CallReader(), bytes(range(256)) * 1000
    frames = sent(reader.outgoing(call_request(OPEN, message)))[1:]
    assert sum(len(one[3]) for one in frames) == 65_535
    reader.feed(frame(http2.WINDOW_UPDATE, 0, 0, (1 << 20).to_bytes(4, "big")))
    assert reader.owed == b""
    reader.feed(frame(http2.WINDOW_UPDATE, 0, 99, (1 << 20).to_bytes(4, "big")))
    assert reader.owed == b""
    larger = b"\0\4" + (100_000).to_bytes(4, "big") + b"\0\5" + (20_000).to_bytes(4, "big") + b"\0\3\0\0\0\1"
    reader.feed(frame(http2.SETTINGS, 0, 0, larger))
    reader.feed(frame(http2.WINDOW_UPDATE, 0, 1, (1 << 20).to_bytes(4, "big")))
    frames += [one for one in sent(reader.owed) if one[0] == http2.DATA]
    assert b"".join(one[3] for one in frames)[5:] == message
    assert [one[1] for one in frames][-2:] == [0, http2.END_STREAM]
    assert max(len(one[3]) for one in frames) == 20_000


def test_large_replies_are_let_in_and_the_window_is_filled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http2, "_REPLENISH_BYTES", 10_000)
    reader = calling()
    head, trailers = frame(http2.HEADERS, http2.END_HEADERS, 1, block(*FIELDS)), reply(b"")[-1:]
    assert trailers
    reader.feed(head + frame(http2.DATA, 0, 1, b"\0" + (12_000).to_bytes(4, "big") + bytes(12_000)))
    assert sent(reader.owed) == [(http2.WINDOW_UPDATE, 0, 0, (12_005).to_bytes(4, "big"))]


def test_a_refusal_of_half_a_call_ends_the_connection() -> None:
    found = told(reply(b"", "8", "too large"), message=bytes(100_000))
    assert (found.status, found.head.closes) == (429, True)


def test_resets_are_told_by_their_kind() -> None:
    for error, status in ((7, 503), (11, 429), (8, FAILED), (55, FAILED)):
        found = told(frame(http2.RST_STREAM, 0, 1, error.to_bytes(4, "big")))
        assert (found.status, b"reset the stream" in found.body) == (status, True)
    reader = calling()
    assert reader.feed(frame(http2.RST_STREAM, 0, 9, bytes(4))) is None


def test_a_server_that_leaves_answers_what_it_took() -> None:
    reader = calling()
    assert reader.feed(frame(http2.GOAWAY, 0, 0, (2**31 - 1).to_bytes(4, "big") + bytes(4))) is None
    found = reader.feed(reply())
    assert found is not None
    assert found.head.closes
    assert not reader.idle
    for reader in (calling(), CallReader()):
        with pytest.raises(MalformedReply, match="GOAWAY"):
            reader.feed(frame(http2.GOAWAY, 0, 0, bytes(8)))


def test_padding_priority_and_continued_headers_are_read() -> None:
    first, second = block(*FIELDS)[:3], block(*FIELDS)[3:]
    padded = http2.PADDED | http2.PRIORITY
    data = b"".join((
        frame(http2.HEADERS, padded, 1, b"\2" + bytes(5) + first + bytes(2)),
        frame(http2.CONTINUATION, http2.END_HEADERS, 1, second),
        frame(http2.DATA, http2.PADDED, 1, b"\3" + b"\0\0\0\0\2ab" + bytes(3)),
        frame(http2.DATA, 0, 7, b"of no call"),
        frame(http2.HEADERS, http2.END_HEADERS, 7, block(*FIELDS)),
        frame(http2.HEADERS, http2.END_HEADERS | http2.END_STREAM, 1, block(("grpc-status", "0"))),
    ))  # fmt: skip
    assert told(data).body == b"ab"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "not HTTP/2"),
        (frame(http2.HEADERS, http2.END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff"), "not a header block"),
        (frame(http2.HEADERS, http2.END_HEADERS, 1, b"\x40\x01a\x01b\xbe"), "not a header block"),
        (frame(http2.HEADERS, http2.END_HEADERS, 1, block((":status", "502"))), "HTTP status 502"),
        (frame(http2.HEADERS, http2.END_HEADERS | http2.END_STREAM, 1, block(*FIELDS)), "not a gRPC reply"),
        (frame(http2.DATA, http2.END_STREAM, 1, b""), "without gRPC's status"),
        (frame(http2.PUSH_PROMISE, 0, 1, b""), "frame 5"),
        (frame(http2.CONTINUATION, 0, 1, b""), "frame 9"),
        (frame(http2.HEADERS, 0, 1, b"") + frame(http2.DATA, 0, 1, b""), "between the frames"),
        (frame(http2.HEADERS, 0, 1, bytes(16_000)) + frame(http2.CONTINUATION, 0, 1, bytes(16_000)) * 5, "headers of more than"),
        (reply(b""), "without a message"),
        (reply().replace(b"\0\0\0\0\5hello", b"\1\0\0\0\5hello"), "compressed"),
        (reply().replace(b"\0\0\0\0\5hello", b"\0\0\0\0\4hello"), "not one message"),
    ],
)  # fmt: skip
def test_what_is_not_a_reply_is_said_to_be_none(data: bytes, message: str) -> None:
    with pytest.raises(MalformedReply, match=message):
        calling().feed(data)


def test_the_memory_for_header_blocks_is_bounded() -> None:
    blocks = http2.Blocks()
    for number in range(2000):
        blocks.fields(block(("grpc-message", str(number))))
    assert len(blocks._known) <= http2._MAX_CACHED_BLOCKS


def test_headers_that_fill_a_frame_are_refused() -> None:
    with pytest.raises(ValueError, match="more than a frame"):
        call_request({"a": "b" * 20_000}, b"")
