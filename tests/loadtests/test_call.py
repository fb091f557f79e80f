from __future__ import annotations

import pytest

from loadtests.call import call, get_json
from loadtests.errors import CannotConnect, MalformedReply, ServerError
from tests.loadtests.conftest import Serve

HOST = "127.0.0.1"


def reply(status: bytes, body: bytes) -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


def test_a_response_in_pieces_is_read_whole(serve: Serve) -> None:
    whole = reply(b"503 Busy", b"later")
    port = serve(lambda number, request: [whole[:10], whole[10:-1], whole[-1:]]).port
    response = call(HOST, port, b"GET / HTTP/1.1\r\n\r\n")
    assert (response.status, response.body) == (503, b"later")


def test_json_is_fetched(serve: Serve) -> None:
    assert get_json(HOST, serve(lambda number, request: [reply(b"200 OK", b'{"a": 1}')]).port, "/v2") == {"a": 1}


@pytest.mark.parametrize(
    ("piece", "error", "match"),
    [
        (reply(b"404 Not Found", b'{"error":"no such model"}'), ServerError, "no such model"),
        (reply(b"200 OK", b"oops"), MalformedReply, "JSON"),
        (b"", CannotConnect, HOST),
    ],
)
def test_what_is_not_json_is_refused(serve: Serve, piece: bytes, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        get_json(HOST, serve(lambda number, request: [piece]).port, "/v2")
