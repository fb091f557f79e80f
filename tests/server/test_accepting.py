"""Accepting: crowds come in within a few turns of the loop, each connection once; it ends when it is told to."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import pytest
import uvloop

from server.accepting import MOST_PER_TURN, Accepting

CROWD = 3 * MOST_PER_TURN


class Greeter(asyncio.Protocol):
    """Counts connections, and echoes."""

    def __init__(self, made: list[asyncio.Transport]) -> None:
        self._made = made

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._made.append(cast("asyncio.Transport", transport))  # uvloop's is one in all but name

    def data_received(self, data: bytes) -> None:
        self._made[0].write(data)


def on_uvloop(test: Callable[[], Awaitable[None]]) -> None:
    """What is at stake is libuv's way to accept."""

    async def run() -> None:
        await test()

    uvloop.run(run())


@contextmanager
def accepting_beside(made: list[asyncio.Transport], descriptors: list[int]) -> Iterator[Accepting]:
    """Ended in any case: uvloop never closes while something is watched."""
    accepting = Accepting(asyncio.get_running_loop(), lambda: Greeter(made))
    accepting.begin(descriptors)
    try:
        yield accepting
    finally:
        accepting.end()


@contextmanager
def listening() -> Iterator[socket.socket]:
    """On a free port, as a server's socket does."""
    with socket.create_server(("127.0.0.1", 0), backlog=2 * CROWD) as listener:
        listener.setblocking(False)
        yield listener


@contextmanager
def crowd(address: Any, n: int) -> Iterator[list[socket.socket]]:
    """So many connections that the kernel has taken and nobody has accepted yet, since this blocks the loop."""
    with ExitStack() as stack:
        yield [stack.enter_context(socket.create_connection(address)) for _ in range(n)]


async def turns(n: int) -> None:
    for _ in range(n):
        await asyncio.sleep(0)


def test_a_crowd_is_taken_in_within_a_few_turns_beside_the_loops_own_server() -> None:
    async def test() -> None:
        made: list[asyncio.Transport] = []
        server = await asyncio.get_running_loop().create_server(lambda: Greeter(made), "127.0.0.1", 0, backlog=2 * CROWD)
        address, descriptors = server.sockets[0].getsockname(), [one.fileno() for one in server.sockets]
        with accepting_beside(made, descriptors), crowd(address, CROWD):
            await turns(16)  # libuv alone accepts one or two in each
            assert len({one.get_extra_info("peername") for one in made}) == len(made) == CROWD
        server.close()

    on_uvloop(test)


def test_what_is_taken_in_works_like_any_other_connection() -> None:
    async def test() -> None:
        made: list[asyncio.Transport] = []
        loop = asyncio.get_running_loop()
        with listening() as listener, accepting_beside(made, [listener.fileno()]) as accepting:
            with socket.create_connection(listener.getsockname()) as client:
                client.sendall(b"hello")
                client.setblocking(False)
                assert await loop.sock_recv(client, 16) == b"hello"
                assert made[0].get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            accepting.end()
            with crowd(listener.getsockname(), 1):
                await turns(8)
                assert len(made) == 1

    on_uvloop(test)


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ECONNABORTED])
def test_what_cannot_be_accepted_stops_nothing(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    accept, codes = socket.socket.accept, [code]

    def failing_once(listener: socket.socket) -> Any:
        if codes:
            raise OSError(found := codes.pop(), os.strerror(found))
        return accept(listener)

    async def test() -> None:
        made: list[asyncio.Transport] = []
        monkeypatch.setattr(socket.socket, "accept", failing_once)
        with listening() as listener, accepting_beside(made, [listener.fileno()]), crowd(listener.getsockname(), 3):
            await turns(8)
            assert (len(made), codes) == (3, [])

    on_uvloop(test)


def test_a_connection_that_is_lost_while_it_is_accepted_stops_nothing() -> None:
    async def test() -> None:
        made: list[asyncio.Transport] = []
        with listening() as listener:
            loop = LosesTheFirst(asyncio.get_running_loop())
            accepting = Accepting(cast("asyncio.AbstractEventLoop", loop), lambda: Greeter(made))
            accepting.begin([listener.fileno()])
            try:
                with crowd(listener.getsockname(), 2):
                    await turns(8)
                    assert (len(made), loop.n_lost) == (1, 1)
            finally:
                accepting.end()

    on_uvloop(test)


class LosesTheFirst:
    """An event loop on which the first connection breaks when it is taken on."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.n_lost = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    async def connect_accepted_socket(self, made: Callable[[], asyncio.Protocol], connection: socket.socket) -> Any:
        if not self.n_lost:
            self.n_lost += 1
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        return await self._loop.connect_accepted_socket(made, connection)
