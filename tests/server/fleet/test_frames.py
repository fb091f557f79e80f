"""Frames survive any way of being cut up; errors come out as they went in; what is not a frame is told."""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server import errors
from server.errors import FerryError, Refused
from server.fleet import frames
from server.fleet.frames import INLINE, AnswerBatch, AskBatch, FrameReader, Kind
from server.fleet.slots import BrokenLink

U32, U64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
SECONDS = st.floats(0, 1e9)
ASKS = st.tuples(U64, U32, U32, U32, st.integers(-1, 2**31 - 1), U64, SECONDS, SECONDS, U64, st.integers(0, 99))
BLOBS = st.binary(max_size=64)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    marks = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(marks)]


def read(data: bytes) -> list[tuple[int, bytes]]:
    return [(kind, bytes(body)) for kind, body in FrameReader().feed(data)]


@given(st.lists(st.tuples(st.sampled_from(Kind), BLOBS), max_size=12), st.lists(st.integers(0), max_size=30))
def test_frames_come_out_whole_however_the_bytes_come_in(sent: list[tuple[Kind, bytes]], places: list[int]) -> None:
    data = b"".join(frames.frame(kind, body) for kind, body in sent)
    reader = FrameReader()
    found = [(kind, bytes(body)) for chunk in cut(data, places) for kind, body in reader.feed(chunk)]
    assert found == sent


@given(st.lists(st.tuples(ASKS, BLOBS), min_size=1, max_size=20))
def test_requests_come_out_as_they_went_in(sent: list[tuple[Any, bytes]]) -> None:
    batch = AskBatch()
    for ask, data in sent:
        batch.add(*ask, data)
    ((kind, body),) = read(batch.frames()[0])
    asks, at = frames.read_asks(memoryview(body))
    assert (kind, [tuple(ask) for ask in asks]) == (Kind.ASKS, [ask for ask, _ in sent])
    assert body[at:] == b"".join(data for _, data in sent)


@given(st.lists(st.tuples(U64, st.integers(-1, 2**31 - 1), U64, BLOBS), min_size=1, max_size=20))
def test_answers_come_out_as_they_went_in(sent: list[tuple[int, int, int, bytes]]) -> None:
    batch = AnswerBatch()
    for answer in sent:
        batch.add(*answer)
    ((kind, body),) = read(batch.frames()[0])
    answers, at = frames.read_answers(memoryview(body))
    assert (kind, list(answers)) == (Kind.ANSWERS, [answer[:3] for answer in sent])
    assert body[at:] == b"".join(data for *_, data in sent)


@pytest.mark.parametrize("sizes", [[10, 20, 30], [100], [60, 60, 60], [40, 40, 40, 5], [1, 200, 1]])
def test_a_batch_with_much_in_it_becomes_several_frames(monkeypatch: pytest.MonkeyPatch, sizes: list[int]) -> None:
    monkeypatch.setattr(frames, "FULL_FRAME_BYTES", 50)
    batch = AnswerBatch()
    for number, size in enumerate(sizes):
        batch.add(number, INLINE, size, bytes([number]) * size)
    found, data = [], b""
    for frame in batch.frames():
        ((_, body),) = read(frame)
        answers, at = frames.read_answers(memoryview(body))
        found += [number for number, _, _ in answers]
        data += body[at:]
        assert len(body) - at <= 50 + max(sizes)
    assert found == list(range(len(sizes)))
    assert data == b"".join(bytes([number]) * size for number, size in enumerate(sizes))


def every_error() -> list[FerryError]:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, FerryError)]
    return [
        kind("no", "deadline", 0.25) if issubclass(kind, Refused) else kind(f"a {kind.__name__} with ünïcode") for kind in kinds
    ]


def test_every_error_of_the_tree_comes_out_as_it_went_in() -> None:
    sent = [(number, error) for number, error in enumerate(every_error(), 7)]
    ((_, body),) = read(frames.failures_frame(sent))
    for (number, error), (found_number, found) in zip(sent, frames.read_failures(memoryview(body)), strict=True):
        assert (found_number, type(found), str(found)) == (number, type(error), str(error))
        for what in ("status", "grpc_status", "label", "retryable", "retry_after_s"):
            assert getattr(found, what) == getattr(error, what)


@given(st.lists(U64, max_size=50))
def test_numbers_come_out_as_they_went_in(numbers: list[int]) -> None:
    ((kind, body),) = read(frames.numbers_frame(Kind.RELEASES, numbers))
    assert (kind, frames.read_numbers(memoryview(body))) == (Kind.RELEASES, numbers)


@pytest.mark.parametrize("read", [frames.read_asks, frames.read_answers, frames.read_numbers, frames.read_failures])
@pytest.mark.parametrize("body", [b"abc", bytes(7), struct.pack("<Q", 2**40) + bytes(60), b'[[1, "NoError", "", "", null]]'])
def test_bodies_that_are_not_right_are_told(read: Any, body: bytes) -> None:
    with pytest.raises(BrokenLink):
        read(memoryview(body + b"x" * (1 - len(body) % 2)))


def test_a_frame_that_claims_too_much_is_told_before_it_is_collected() -> None:
    with pytest.raises(BrokenLink, match="are allowed"):
        FrameReader().feed(struct.pack("<II", frames.MOST_FRAME_BYTES + 1, Kind.ASKS))
