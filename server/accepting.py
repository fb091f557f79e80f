"""Takes in connections as fast as they come. libuv accepts one for each turn of the event loop, and under load a turn takes long:
a thousand clients that connect at once would wait for seconds. Knows nothing of HTTP."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Iterable

log = logging.getLogger(__name__)

MOST_PER_TURN = 64
"""Of one listening socket: so that those who are connected need not wait for a whole crowd."""


class Accepting:
    """Accepts beside the event loop's own server, from the same listening sockets. On the event loop only."""

    def __init__(self, loop: asyncio.AbstractEventLoop, connected: Callable[[], asyncio.Protocol]) -> None:
        """`connected`: makes the protocol of one connection."""
        self._loop = loop
        self._connected = connected
        self._listeners: list[socket.socket] = []
        self._joining: set[asyncio.Task[object]] = set()

    def begin(self, listening: Iterable[int]) -> None:
        """`listening`: descriptors of sockets that listen and do not block; they stay their owner's."""
        for descriptor in listening:
            listener = socket.socket(fileno=os.dup(descriptor))  # one descriptor cannot be watched twice
            self._listeners.append(listener)
            self._loop.add_reader(listener, self._accept, listener)

    def end(self) -> None:
        """No more; a port is closed when its owner closes it too."""
        for listener in self._listeners:
            self._loop.remove_reader(listener)
            listener.close()
        self._listeners = []

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(MOST_PER_TURN):
            try:
                connection, _ = listener.accept()
            except ConnectionAbortedError:
                continue  # its client is gone already
            except BlockingIOError:
                return
            except OSError as error:  # too many open files, say: the loop's own server knows what to do then
                log.debug("cannot accept: %s", error)
                return
            connection.setblocking(False)
            joining = self._loop.create_task(self._join(connection))
            self._joining.add(joining)
            joining.add_done_callback(self._joining.discard)

    async def _join(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._connected, connection)
        except OSError as error:
            log.debug("a connection was lost while it was accepted: %s", error)
            connection.close()
