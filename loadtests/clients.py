"""Which connection a request goes out on: any that is free, or that of the client it belongs to. No sockets, no clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Protocol as Interface

import numpy as np

from loadtests.sockets import Connection


class Clients(Enum):
    """Who the connections belong to; `value` is for people and flags."""

    POOLED = "pooled"
    """One client with many connections: whichever is free takes the next request."""
    INDEPENDENT = "independent"
    """As many clients as connections: what is due at one waits for its own connection, whoever else is idle."""


class Assignment(Interface):
    """What the open loop asks about connections. A request is claimed, goes out, and its connection is freed at its end."""

    def exhausted(self, n_open: int) -> bool:
        """Whether nothing that is due can go out, nor wait for a connection of its own."""

    def takes(self, ordinal: int) -> bool:
        """Whether the request may go out now; else it is handed out by `freed` when its turn has come."""

    def claim(self, ordinal: int) -> Connection | None:
        """A connection that stands; None if one has to be opened for the request."""

    def freed(self, ordinal: int, connection: Connection | None) -> int | None:
        """The request has ended; its connection (None: it is closed) is free. The request that goes out in its place."""

    def add(self, connection: Connection) -> None:
        """A connection that was opened ahead of any request."""

    def forget(self, connection: Connection) -> None:
        """The server closed it while nothing was in flight on it."""


class Pooled:
    """Any free connection, the one used last first; the pool grows up to `most`."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._idle: dict[int, Connection] = {}

    def exhausted(self, n_open: int) -> bool:
        return not self._idle and n_open >= self._most

    def takes(self, ordinal: int) -> bool:
        return True

    def claim(self, ordinal: int) -> Connection | None:
        return self._idle.popitem()[1] if self._idle else None

    def freed(self, ordinal: int, connection: Connection | None) -> int | None:
        if connection is not None:
            self._idle[connection.fd] = connection
        return None

    def add(self, connection: Connection) -> None:
        self._idle[connection.fd] = connection

    def forget(self, connection: Connection) -> None:
        self._idle.pop(connection.fd, None)


class Independent:
    """A connection for each client, one request in flight on it, the client's others in line behind that."""

    def __init__(self, client_of: Sequence[int], is_open: Callable[[int], bool]) -> None:
        """`client_of` says for each request whose it is; `is_open` whether a request has not ended yet."""
        self._client_of = client_of
        self._is_open = is_open
        self._idle: dict[int, Connection] = {}
        self._waiting: dict[int, deque[int]] = {}
        """By client, for those that have a request in flight."""
        self._n_added = 0

    def exhausted(self, n_open: int) -> bool:
        return False

    def takes(self, ordinal: int) -> bool:
        client = self._client_of[ordinal]
        line = self._waiting.get(client)
        if line is None:
            self._waiting[client] = deque()
            return True
        line.append(ordinal)
        return False

    def claim(self, ordinal: int) -> Connection | None:
        return self._idle.pop(self._client_of[ordinal], None)

    def freed(self, ordinal: int, connection: Connection | None) -> int | None:
        client = self._client_of[ordinal]
        if connection is not None:
            self._idle[client] = connection
        line = self._waiting[client]
        while line:
            if self._is_open(following := line.popleft()):
                return following
        del self._waiting[client]
        return None

    def add(self, connection: Connection) -> None:
        self._idle[self._n_added] = connection
        self._n_added += 1

    def forget(self, connection: Connection) -> None:
        client = next((client for client, idle in self._idle.items() if idle is connection), None)
        if client is not None:
            del self._idle[client]


def draw(n_requests: int, n_clients: int, seed: int) -> list[int]:
    """The client of each request. Poisson arrivals, dealt out by chance, are a Poisson stream at each client."""
    return [int(client) for client in np.random.default_rng(seed).integers(0, n_clients, n_requests)]
