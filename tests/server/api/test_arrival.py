"""How long a request has waited, as the kernel tells."""

from __future__ import annotations

import socket
import sys
import time

import pytest

from server.api.arrival import Arrivals


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_data_that_waits_to_be_read_grows_old() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        connection, _ = server.accept()
        with connection:
            time.sleep(0.2)  # how old the connection is does not count
            client.sendall(b"request")
            sent_at = time.monotonic()
            arrivals = Arrivals(connection)
            while arrivals.waited_s() < 0.1:
                assert time.monotonic() - sent_at < 10, "it never grows old"
                time.sleep(0.01)
            assert time.monotonic() - sent_at >= 0.09
            assert connection.recv(100) == b"request"
            assert arrivals.waited_s() >= 0.1, "reading makes it no younger"
            client.sendall(b"another")
            time.sleep(0.001)
            assert arrivals.waited_s() < 0.1
            arrivals.forget()
            assert arrivals.waited_s() == 0.0
            assert connection.fileno() > 0, "the connection is not ours to close"
            client.sendall(b"and on")
            assert connection.recv(100)


def test_where_nobody_can_tell_nothing_has_waited() -> None:
    one, other = socket.socketpair()
    with one, other:
        arrivals = Arrivals(one)
        assert arrivals.waited_s() == 0.0
        arrivals.forget()
    assert Arrivals(one).waited_s() == 0.0
    assert Arrivals(None).waited_s() == 0.0
