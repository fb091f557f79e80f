"""Streamed completions are read right however they are cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.errors import MalformedReply
from loadtests.generation.streams import Answer, Asked, read

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
EVENTS = (
    b'data: {"choices":[{"text":"a b","finish_reason":null}]}\n\n',
    b'data: {"choices":[{"text":"c","finish_reason":null}]}\n\n',
    b'data: {"choices":[{"text":"","finish_reason":"length"}]}\n\n',
    b'data: {"choices":[],"usage":{}}\n\n',
    b"data: [DONE]\n\n",
)


def reply() -> bytes:
    chunks = [b"%x\r\n%s\r\n" % (len(event), event) for event in EVENTS]
    return HEAD + b"".join(chunks) + b"0\r\n\r\n"


@given(st.sets(st.integers(1, len(reply()) - 1)))
def test_a_reply_is_read_alike_wherever_it_is_cut(cuts: set[int]) -> None:
    places = [0, *sorted(cuts), len(reply())]
    answer = read(0.0, [(float(at), reply()[at:stop]) for at, stop in pairwise(places)])
    assert (answer.status, answer.text, answer.finish, len(answer.token_at)) == (200, "a bc", "length", 3)
    assert answer.token_at == sorted(answer.token_at)
    assert answer.n_said == [3, 4, 4]


def test_an_event_counts_from_its_last_byte() -> None:
    first = HEAD + b"%x\r\n" % len(EVENTS[0]) + EVENTS[0]
    answer = read(1.0, [(2.0, first[:-10]), (3.0, first[-10:])])
    assert answer.token_at == [3.0]
    assert answer.first_s == 2.0


def test_tokens_without_text_of_their_own_make_no_long_gap() -> None:
    told = [(1.0, "a", 1), (1.5, "b", 2), (3.5, "\u00e9", 4), (3.5, "", 4)]
    events = [
        b'data: {"choices":[{"text":"%s","finish_reason":null}],"usage":{"completion_tokens":%d}}\n\n' % (text.encode(), n)
        for _, text, n in told
    ]
    answer = read(0.0, [(0.5, HEAD), *((at, event) for (at, _, _), event in zip(told, events, strict=True))])
    assert answer.n_tokens == [1, 2, 4, 4]
    assert answer.gaps_s == [0.5, 1.0, 0.0]
    answer.n_tokens.pop()
    assert answer.gaps_s == [0.5, 2.0, 0.0], "of a server that does not say how many there are"


def test_who_counts_tokens_asks_for_their_number() -> None:
    assert b"usage" not in Asked([1], 2).body("m")
    assert b'"continuous_usage_stats":true' in Asked([1], 2, counts=True).body("m")


def test_a_refusal_has_its_status_and_its_hint() -> None:
    answer = read(0.0, [(1.0, b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 2\r\n\r\n{}")])
    assert (answer.status, answer.retry_after, answer.token_at) == (429, "2", [])


@pytest.mark.parametrize(
    ("pieces", "what"),
    [
        ([(0.0, b"HTTP/1.1 200")], "ended before a whole head"),
        ([(0.0, b"SSH-2.0\r\n\r\n")], "began with"),
        ([(0.0, HEAD + b'data: {"error":{"message":"lost"}}\n\n')], "lost"),
    ],
)
def test_what_is_no_answer_says_why(pieces: list[tuple[float, bytes]], what: str) -> None:
    with pytest.raises(MalformedReply, match=what):
        read(0.0, pieces)


def test_an_answer_has_said_a_text_when_its_last_character_has_come() -> None:
    answer = Answer(0.0, 200, "abcdef", [1.0, 2.0, 3.0, 4.0], [2, 3, 6, 6])
    assert [answer.said_at(text) for text in ("a", "ab", "abc", "abcd", "abcdef")] == [1.0, 1.0, 2.0, 3.0, 3.0]
    assert answer.said_at("abc\N{REPLACEMENT CHARACTER}") == 2.0
