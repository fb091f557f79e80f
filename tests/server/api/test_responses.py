"""Replies as bytes, and the one that is kept."""

from __future__ import annotations

from server.api.errors_http import Reply
from server.api.responses import Responses, response_bytes

REFUSED: Reply = (503, [(b"retry-after", b"1")], b"no")
ONE_SECOND, THE_NEXT = [(b"date", b"Mon")], [(b"date", b"Tue")]


def test_a_response_is_a_status_line_headers_and_a_body() -> None:
    wanted = b"HTTP/1.1 503 Service Unavailable\r\ndate: Mon\r\nretry-after: 1\r\n\r\nno"
    assert response_bytes(REFUSED, ONE_SECOND) == wanted


def test_the_same_refusal_is_put_into_bytes_once_a_second() -> None:
    responses = Responses()
    first = responses.encode(REFUSED, ONE_SECOND)
    assert responses.encode(REFUSED, ONE_SECOND) is first
    assert responses.encode(REFUSED, THE_NEXT) == response_bytes(REFUSED, THE_NEXT) != first


def test_another_refusal_with_the_same_words_is_no_answer_to_others() -> None:
    responses = Responses()
    responses.encode(REFUSED, ONE_SECOND)
    other: Reply = (503, [(b"retry-after", b"2")], b"no")
    assert responses.encode(other, ONE_SECOND) == response_bytes(other, ONE_SECOND)


def test_an_answer_is_not_kept() -> None:
    responses = Responses()
    answer: Reply = (200, [], b"1")
    assert responses.encode(answer, ONE_SECOND) == responses.encode(answer, ONE_SECOND)
    refused = responses.encode(REFUSED, ONE_SECOND)
    responses.encode(answer, ONE_SECOND)
    assert responses.encode(REFUSED, ONE_SECOND) is refused
