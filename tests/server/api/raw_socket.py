"""A TCP connection for tests that say what no HTTP client would."""

from __future__ import annotations

import json
import socket
from typing import Any

from tests.child_server import Reply


class RawSocket:
    """Sends bytes, reads replies one by one. A context manager."""

    def __init__(self, port: int, timeout_s: float = 30.0) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=timeout_s)
        self._buffer = b""

    def __enter__(self) -> RawSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def half_close(self) -> None:
        self._socket.shutdown(socket.SHUT_WR)

    def reply(self) -> Reply | None:
        """The next reply; None when the connection ended before it."""
        while b"\r\n\r\n" not in self._buffer:
            if not self._fill():
                assert not self._buffer, self._buffer
                return None
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers["content-length"])
        while len(self._buffer) < length:
            assert self._fill(), "the connection ended within a reply"
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        return Reply(int(status.split()[1]), headers, body)

    def _fill(self) -> bool:
        try:
            data = self._socket.recv(65536)
        except ConnectionResetError:
            return False
        self._buffer += data
        return bool(data)


def post(body: Any, path: str = "/v2/models/affine/infer") -> bytes:
    """A whole request."""
    data = json.dumps(body).encode() if isinstance(body, dict) else body
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data
