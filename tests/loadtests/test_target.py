from __future__ import annotations

import os
import socket

import pytest

from loadtests.data import InputMeta
from loadtests.errors import BadInput, CannotConnect, MalformedReply, NothingListens, ServerError
from loadtests.listening import listening_pid, server_pid
from loadtests.refusals import Refusals
from loadtests.target import Target, metadata, target, try_out
from tests.loadtests.conftest import Serve
from tests.loadtests.test_closed_loop import HOST, request
from tests.loadtests.test_wire import response


def test_addresses_are_understood() -> None:
    assert target("http://127.0.0.1:81", "m").address == ("127.0.0.1", 81)
    assert target("127.0.0.1:81/", "m").authority == "127.0.0.1:81"
    assert Target("::1", 80, "m", None).authority == "[::1]:80"
    for url in ("https://x", "ftp://x:1", "http://x/y", "http://", "http://127.0.0.1:99999"):
        with pytest.raises(BadInput, match="--url"):
            target(url, "m")


def test_a_name_without_an_address_is_one_clear_error() -> None:
    with pytest.raises((CannotConnect, BadInput), match="--url"):
        target("http://no.such.host.invalid:1", "m")


def test_metadata_is_read_and_its_absence_explained(serve: Serve) -> None:
    good = response(b"200 OK", b'{"inputs":[{"name":"x","datatype":"FP32","shape":["-1",4]}]}')
    replies = [good, response(b"404 Not Found", b'{"error":"unknown"}'), response(b"200 OK", b'{"inputs":[1]}')]
    to = Target(HOST, serve(lambda number, whole: [replies[number]]).port, "a b", "3")
    assert metadata(to) == [InputMeta("x", "FP32", (-1, 4))]
    with pytest.raises(ServerError, match="model 'a b': unknown"):
        metadata(to)
    with pytest.raises(MalformedReply, match="not V2"):
        metadata(to)


def test_a_first_request_may_be_refused_for_load_only(serve: Serve) -> None:
    statuses = [b"200 OK", b"503 Busy", b"429 Slow", b"400 Bad Request"]
    to = Target(HOST, serve(lambda number, whole: [response(statuses[number], b'{"error":"no"}')]).port, "m", None)
    assert [try_out(to, request(b""), 5).status for _ in range(3)] == [200, 503, 429]
    with pytest.raises(ServerError, match="refuses the first request: no"):
        try_out(to, request(b""), 5)


def test_the_process_that_listens_is_found() -> None:
    with socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]
        assert listening_pid(port) == os.getpid()
        assert [server_pid(None, HOST, port), server_pid(7, HOST, port)] == [os.getpid(), 7]
        assert server_pid(None, "192.0.2.1", port) is None, "another machine's port says nothing of a process here"
    assert server_pid(None, HOST, port) is None
    with pytest.raises(NothingListens, match=str(port)):
        listening_pid(port)


def test_like_refusals_have_one_reason() -> None:
    refusals = Refusals()
    bodies = [b'{"error":"retry in %d.5 ms"}' % n for n in range(2000)]
    assert {refusals.reason(body) for body in bodies} == {"retry in N ms"}
    assert refusals.reason(b"") == ""
    assert len(refusals.reason(b"x" * 5000)) <= 120
