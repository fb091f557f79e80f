"""A server in several processes: sockets, a folder for what goes between the processes, and the supervisor over them."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from tempfile import TemporaryDirectory

from server.fleet.child import Orders
from server.fleet.supervisor import Post, Supervisor
from server.runtime.clock import monotonic_clock
from server.settings import Settings

log = logging.getLogger(__name__)

GRACE_S = 5.0
"""A child that was asked to end may take so much longer than its clients have."""


def serve_in_processes(settings: Settings) -> int:
    """Run until SIGTERM or SIGINT; the exit status."""
    try:
        sockets = bound_sockets(settings.host, settings.port, settings.frontends)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        print(f"ferry: cannot listen on {settings.host}:{settings.port}: {why}; choose another with --port", file=sys.stderr)
        return 1
    with ExitStack() as stack:
        for one in sockets:
            stack.enter_context(one)
        folder = stack.enter_context(TemporaryDirectory(prefix="ferry-"))
        return asyncio.run(_supervise(settings, sockets, folder))


async def _supervise(settings: Settings, sockets: Sequence[socket.socket], folder: str) -> int:
    given = settings.model_dump(mode="json", exclude_unset=True)
    engine = Post(_module("server.engine_process"), Orders("engine", given, folder))
    fronts = [
        Post(_module("server.front_process"), Orders(f"front end {number}", given, folder, one.fileno()))
        for number, one in enumerate(sockets)
    ]
    host, port = sockets[0].getsockname()[:2]
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def serving() -> None:
        log.info("%d front ends running on http://%s (Press CTRL+C to quit)", len(fronts), place)

    def closing() -> None:
        for one in sockets:
            one.close()

    supervisor = Supervisor(engine, fronts, monotonic_clock, settings.drain_timeout_s + GRACE_S)
    return await supervisor.run(serving, closing)


def bound_sockets(host: str, port: int, n: int) -> list[socket.socket]:
    """So many sockets on one port, not listening yet. The kernel spreads connections over those that listen; what waits at a
    front end that died waits for the next one, because its socket is ours. Raises OSError when the port is taken."""
    family, kind, number, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    with socket.socket(family, kind, number) as probe:  # sharing a port with strangers must not happen by accident
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
        probe.listen()
        address = probe.getsockname()
    sockets = []
    for _ in range(n):
        one = socket.socket(family, kind, number)
        sockets.append(one)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        one.bind(address)
    return sockets


def _module(name: str) -> list[str]:
    return [sys.executable, "-m", name]
