"""A scripted HTTP server in a thread, for tests that need a peer to misbehave on purpose. It knows no V2."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

Script = Callable[[int, bytes], list[bytes]]
"""(number of the request, whole request) → pieces to write one by one; an empty piece resets the connection."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A running scripted server."""

    port: int


Serve = Callable[[Script], Peer]
"""Starts a scripted server; it is stopped at the end of the test."""


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start scripted servers; all are stopped at the end of the test."""
    running: list[tuple[asyncio.AbstractEventLoop, threading.Thread]] = []

    def start(script: Script) -> Peer:
        started, state = threading.Event(), SimpleNamespace(port=0)
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=_run, args=(loop, script, state, started), daemon=True)
        thread.start()
        assert started.wait(10)
        running.append((loop, thread))
        return Peer(state.port)

    yield start
    for loop, thread in running:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)


def _run(loop: asyncio.AbstractEventLoop, script: Script, state: SimpleNamespace, started: threading.Event) -> None:
    numbers = itertools.count()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while request := await _request(reader):
                for piece in script(next(numbers), request):
                    if not piece:
                        return
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)
        except ConnectionError:
            return
        finally:
            writer.transport.abort()

    server = loop.run_until_complete(asyncio.start_server(handle, "127.0.0.1", 0))
    state.port = server.sockets[0].getsockname()[1]
    started.set()
    loop.run_forever()
    server.close()
    loop.run_until_complete(_cancel(asyncio.all_tasks(loop)))
    loop.close()


async def _cancel(tasks: set[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(0)  # aborted transports close their sockets on the next turn


async def _request(reader: asyncio.StreamReader) -> bytes:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        lengths = [int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        return head + await reader.readexactly(sum(lengths))
    except asyncio.IncompleteReadError:
        return b""
