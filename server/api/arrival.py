"""When a request reached this machine, by the kernel's word: a busy event loop reads late, and would take an old request
for a new one."""

from __future__ import annotations

import socket
import struct
from typing import Any

ARRIVED_AT = "ferry.arrived_at"
"""Where an ASGI scope holds when the last data of its request came in, in absolute seconds of the monotonic clock."""

TICK_S = 0.004
"""The coarsest clock that Linux keeps these times by."""

_INFO = struct.Struct("=52xI")
"""Linux's tcp_info as far as tcpi_last_data_recv: milliseconds since the last data came in, read or not."""


def waited_s(connection: Any) -> float:
    """At least so many seconds have passed since the last data came in on a connection (anything with a socket's getsockopt).

    0.0 where that is not known: another system than Linux, another kind of socket, one that is closed. Of requests that a client pipelines, the later ones make the earlier ones seem younger.
    """
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size)
    except (AttributeError, OSError):
        return 0.0
    if len(info) < _INFO.size:
        return 0.0
    milliseconds: int = _INFO.unpack(info)[0]
    return max(0.0, milliseconds * 1e-3 - TICK_S)
