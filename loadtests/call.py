"""One request, one response, over a blocking connection: for readiness, metadata and single answers, not for load."""

from __future__ import annotations

import socket
from typing import Any

import orjson

from loadtests.errors import CannotConnect, MalformedReply, ServerError
from loadtests.protocols import Protocol
from loadtests.wire import Bodies, Response, error_text, get_request


def call(host: str, port: int, request: bytes, *, timeout_s: float = 30.0, protocol: Protocol = Protocol.HTTP) -> Response:
    """Send a whole request on a new connection and read its response, of whatever status.

    Raises CannotConnect if the connection fails or breaks off (or nothing comes for `timeout_s`), MalformedReply.
    """
    reader = protocol.readers(Bodies.KEEP)()
    try:
        with socket.create_connection((host, port), timeout=timeout_s) as sock:
            sock.sendall(reader.start() + reader.outgoing(request))
            while data := sock.recv(64 * 1024):
                response = reader.feed(data)
                if response is not None:
                    return response
                owed, reader.owed = reader.owed, b""
                sock.sendall(owed)
    except OSError as error:
        raise CannotConnect(f"no answer from {host}:{port}: {error}") from error
    raise CannotConnect(f"{host}:{port} closed the connection without an answer")


def get_json(host: str, port: int, path: str, key: str | None = None, *, timeout_s: float = 30.0) -> Any:
    """The JSON body of GET `path`, asked with `key`. Raises ServerError for a status other than 200, and what `call` raises."""
    response = call(host, port, get_request(f"{host}:{port}", path, key), timeout_s=timeout_s)
    if response.status != 200:
        raise ServerError(response.status, error_text(response.body))
    try:
        return orjson.loads(response.body)
    except ValueError as error:
        raise MalformedReply(f"{path} did not answer with JSON: {error}") from error
