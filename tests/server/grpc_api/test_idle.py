"""Connections to the gRPC port that do nothing: they end, whatever it is that they do not do, and clients notice nothing."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.child_server import ChildServer
from tests.server.grpc_api.calls import affine, channel, floats, infer

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
"""How an HTTP/2 connection begins: the preface, and empty settings."""


@pytest.fixture(scope="module")
def hasty(tiny_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChildServer]:
    """A server with little patience."""
    flags = ("--receive-timeout-s", "1", "--idle-timeout-s", "1")
    with ChildServer(tiny_repository, tmp_path_factory.mktemp("hasty") / "log", *flags) as running:
        yield running


def ends(connection: socket.socket) -> bool:
    """Within the socket's time-out."""
    try:
        while connection.recv(65536):
            pass
    except ConnectionResetError:
        return True
    return True


@pytest.mark.parametrize("start", [b"", PREFACE[:10], PREFACE], ids=["nothing", "half a preface", "no call"])
def test_a_connection_without_a_call_ends(hasty: ChildServer, start: bytes) -> None:
    with socket.create_connection(("127.0.0.1", hasty.grpc_port), timeout=20) as connection:
        connection.sendall(start)
        assert ends(connection)


def test_a_client_that_was_idle_goes_on_as_if_nothing_had_been(hasty: ChildServer) -> None:
    with channel(hasty.grpc_port) as opened, socket.create_connection(("127.0.0.1", hasty.grpc_port), timeout=20) as witness:
        assert floats(infer(opened, affine())).tolist() == [[3.0] * 4]
        witness.sendall(PREFACE)
        assert ends(witness)  # younger than the channel's own connection, which is therefore gone too
        assert floats(infer(opened, affine())).tolist() == [[3.0] * 4]
