"""When a request reached this machine, by the kernel's word: a busy event loop reads late, and would take an old request
for a new one."""

from __future__ import annotations

import socket
import struct
from typing import Any

from server.runtime.clock import monotonic_clock

ARRIVED_AT = "ferry.arrived_at"
"""Where an ASGI scope holds when the last data of its request came in, in absolute seconds of the monotonic clock."""

TICK_S = 0.004
"""The coarsest clock that Linux keeps these times by."""

_INFO = struct.Struct("=52xI")
"""Linux's tcp_info as far as tcpi_last_data_recv: milliseconds since the last data came in, read or not."""


class Arrivals:
    """Of one connection. The socket is the transport's; it is borrowed until `forget`, which must come before it is closed."""

    __slots__ = ("_socket",)

    def __init__(self, connection: Any) -> None:
        """`connection`: the transport's view of its socket, None for one that has none."""
        self._socket = None if connection is None else _borrowed(connection)

    def waited_s(self) -> float:
        """At least so many seconds have passed since the last data came in.

        0.0 where that is not known: another system than Linux, another kind of socket, one that is closed. Of requests that
        a client pipelines, the later ones make the earlier ones seem younger.
        """
        if self._socket is None:
            return 0.0
        try:
            info = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size)
        except (AttributeError, OSError):
            return 0.0
        if len(info) < _INFO.size:
            return 0.0
        milliseconds: int = _INFO.unpack(info)[0]
        return max(0.0, milliseconds * 1e-3 - TICK_S)

    def latest_at(self) -> float:
        """When the last data came in, in absolute seconds; now, where that is not known."""
        return monotonic_clock() - self.waited_s()

    def forget(self) -> None:
        """The connection is lost."""
        if self._socket is not None:
            self._socket.detach()
            self._socket = None


def _borrowed(connection: Any) -> socket.socket | None:
    """A transport's own view makes a socket object for each question, which takes longer than the question."""
    number = connection.fileno()
    return None if number < 0 else socket.socket(connection.family, connection.type, connection.proto, fileno=number)
