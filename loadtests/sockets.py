"""Keep-alive connections on one epoll, one request in flight on each: what the closed and the open loop share.

What a request is in bytes, and what a reply, is the affair of each connection's reader.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from dataclasses import replace
from errno import EINPROGRESS

from loadtests.errors import MalformedReply
from loadtests.protocols import Protocol, Reader
from loadtests.wire import Bodies, Response

_RECV_BYTES = 64 * 1024
_MAX_SELECT_FD = 1024
_READ = select.EPOLLIN
_BOTH = select.EPOLLIN | select.EPOLLOUT
NO_REQUEST = -1


class Connection:
    """One socket, and the request in flight on it by the number its loop gave it."""

    __slots__ = ("error", "fd", "ordinal", "reader", "sock", "unsent")

    def __init__(self, sock: socket.socket, reader: Reader) -> None:
        self.fd = sock.fileno()
        self.sock = sock
        self.reader = reader
        self.ordinal = NO_REQUEST
        self.unsent = memoryview(b"")
        self.error = "the server closed the connection"
        """Why it ended, should it end: a send takes an error away from the reads that follow."""


class Broken:
    """Why a connection ended without a whole response."""

    __slots__ = ("why",)

    def __init__(self, why: str) -> None:
        self.why = why


class Sockets:
    """Owns the sockets and the epoll; says what happened on them, in `poll`, and decides nothing."""

    def __init__(self, address: tuple[str, int], bodies: Bodies, protocol: Protocol = Protocol.HTTP) -> None:
        self._address = address
        self._reader = protocol.readers(bodies)
        self._epoll = select.epoll()
        self._by_fd: dict[int, Connection] = {}

    def __len__(self) -> int:
        return len(self._by_fd)

    def __iter__(self) -> Iterator[Connection]:
        return iter(list(self._by_fd.values()))

    def open(self, timeout_s: float) -> Connection:
        """A connection that stands. Raises OSError."""
        sock = socket.create_connection(self._address, timeout=timeout_s)
        sock.setblocking(False)
        return self._add(sock)

    def begin(self) -> Connection:
        """A connection that may still be on its way: what is sent on it leaves when it stands. Raises OSError."""
        family = socket.AF_INET6 if ":" in self._address[0] else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setblocking(False)
        error = sock.connect_ex(self._address)
        if error not in (0, EINPROGRESS):
            sock.close()
            raise OSError(error, "cannot connect")
        return self._add(sock)

    def _add(self, sock: socket.socket) -> Connection:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(sock, self._reader())
        self._epoll.register(connection.fd, _READ)
        self._by_fd[connection.fd] = connection
        if first := connection.reader.start():
            self._write(connection, first)
        return connection

    def send(self, connection: Connection, ordinal: int, request: bytes) -> None:
        """Send as much as goes now; the rest goes during `poll`, which also tells of a socket that is broken."""
        connection.ordinal = ordinal
        self._write(connection, connection.reader.outgoing(request))

    def _write(self, connection: Connection, data: bytes) -> None:
        if connection.unsent:
            connection.unsent = memoryview(b"".join((connection.unsent, data)))
            return
        try:
            n_sent = connection.sock.send(data)
        except BlockingIOError:
            n_sent = 0
        except OSError as error:
            connection.error = _text(error)
            return
        if n_sent < len(data):
            connection.unsent = memoryview(data)[n_sent:]
            self._epoll.modify(connection.fd, _BOTH)

    def poll(self, timeout_s: float) -> Iterator[tuple[Connection, Response | Broken]]:
        """What happened within `timeout_s`: whole responses, and connections that broke and are closed already."""
        for fd, mask in self._events(timeout_s):
            connection = self._by_fd.get(fd)
            if connection is None:
                continue
            if mask & select.EPOLLOUT:
                self._push(connection)
            if mask & ~select.EPOLLOUT and (found := self._receive(connection)) is not None:
                yield connection, found

    def close(self, connection: Connection) -> None:
        """Close one connection, whatever is in flight on it."""
        del self._by_fd[connection.fd]
        connection.sock.close()

    def close_all(self) -> None:
        """Close everything; `poll` is over."""
        for connection in self:
            connection.sock.close()
        self._by_fd.clear()
        self._epoll.close()

    def _events(self, timeout_s: float) -> list[tuple[int, int]]:
        """Epoll waits in steps of 1 ms, too coarse to send on time; select on the epoll itself waits to the microsecond."""
        fd = self._epoll.fileno()
        if timeout_s <= 0 or fd >= _MAX_SELECT_FD:
            return self._epoll.poll(max(0.0, timeout_s))
        return self._epoll.poll(0) if select.select((fd,), (), (), timeout_s)[0] else []

    def _receive(self, connection: Connection) -> Response | Broken | None:
        try:
            data = connection.sock.recv(_RECV_BYTES)
            response = connection.reader.feed(data) if data else None
            if connection.reader.owed:
                self._write_owed(connection)
        except BlockingIOError:
            return None
        except OSError as error:
            return self._break(connection, _text(error))
        except MalformedReply as error:
            return self._break(connection, f"malformed reply: {error}")
        if response is not None and (connection.ordinal == NO_REQUEST or connection.unsent):
            return self._early(connection, response)
        if response is None and not data:
            return self._break(connection, connection.error)
        return response

    def _write_owed(self, connection: Connection) -> None:
        owed, connection.reader.owed = connection.reader.owed, b""
        self._write(connection, owed)

    def _early(self, connection: Connection, response: Response) -> Response | Broken:
        """A refusal may come before the request has left; the connection is of no use then."""
        if connection.ordinal == NO_REQUEST or response.status == 200:
            return self._break(connection, "a reply to no request or to half of one")
        return Response(replace(response.head, closes=True), response.body)

    def _break(self, connection: Connection, why: str) -> Broken:
        self.close(connection)
        return Broken(why)

    def _push(self, connection: Connection) -> None:
        try:
            connection.unsent = connection.unsent[connection.sock.send(connection.unsent) :]
        except BlockingIOError:
            return
        except OSError as error:
            connection.error = _text(error)
            connection.unsent = memoryview(b"")
        if not connection.unsent:
            self._epoll.modify(connection.fd, _READ)


def _text(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
