"""A child's end of the line to its supervisor: what it is told at the start, that it is ready, and that nobody watches any more."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from dataclasses import dataclass
from typing import Any

READY = b"ready\n"


@dataclass(frozen=True, slots=True)
class Orders:
    """`name` is for the log; `settings` are those that were given; `folder` holds the sockets between the processes; `listener` is
    the descriptor of a listening socket, None for a child without one."""

    name: str
    settings: dict[str, Any]
    folder: str
    listener: int | None = None

    def to_line(self) -> bytes:
        return json.dumps([self.name, self.settings, self.folder, self.listener]).encode() + b"\n"


class Line:
    """The connection that a child inherits as an open descriptor."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._socket.set_inheritable(False)

    def orders(self) -> Orders:
        """What the supervisor says first. Blocks."""
        line = b""
        while not line.endswith(b"\n"):
            part = self._socket.recv(65536)
            if not part:
                raise SystemExit("ferry: the supervisor ended before it gave orders")
            line += part
        return Orders(*json.loads(line))

    def ready(self) -> None:
        """Tell that requests can come, and end, as on SIGTERM, when the supervisor does."""
        self._socket.send(READY)
        self._socket.setblocking(False)
        loop = asyncio.get_running_loop()

        def ended() -> None:
            loop.remove_reader(self._socket)
            os.kill(os.getpid(), signal.SIGTERM)

        loop.add_reader(self._socket, ended)
