"""Clients that go away are noticed, and only those that wait long enough cost a task."""

from __future__ import annotations

import asyncio
from typing import Any

from server.api.disconnects import DisconnectWatch


class Connection:
    def __init__(self) -> None:
        self.lost = asyncio.Event()
        self.n_listeners = 0

    async def receive(self) -> Any:
        self.n_listeners += 1
        await self.lost.wait()
        return {"type": "http.disconnect"}


def test_a_lost_connection_is_reported_once() -> None:
    async def scenario() -> None:
        watch, connection, gone = DisconnectWatch(asyncio.get_running_loop()), Connection(), asyncio.Event()
        watch.begin(1, connection.receive, gone.set)
        connection.lost.set()
        await asyncio.wait_for(gone.wait(), 10)
        assert connection.n_listeners == 1
        watch.end(1)

    asyncio.run(scenario())


def test_requests_that_end_soon_are_never_listened_to() -> None:
    async def scenario() -> None:
        watch, quick, slow, gone = DisconnectWatch(asyncio.get_running_loop()), Connection(), Connection(), asyncio.Event()
        watch.begin(1, quick.receive, gone.set)
        watch.end(1)
        watch.begin(2, slow.receive, gone.set)
        slow.lost.set()
        await asyncio.wait_for(gone.wait(), 10)
        assert quick.n_listeners == 0
        watch.end(2)
        watch.end(2)  # twice is harmless

    asyncio.run(scenario())


def test_ending_stops_the_listener() -> None:
    async def scenario() -> None:
        watch, connection, gone = DisconnectWatch(asyncio.get_running_loop()), Connection(), []
        tasks = asyncio.all_tasks()
        watch.begin(1, connection.receive, lambda: gone.append(1))
        while not connection.n_listeners:
            await asyncio.sleep(0.005)
        watch.end(1)
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == tasks
        connection.lost.set()
        await asyncio.sleep(0)
        assert not gone

    asyncio.run(asyncio.wait_for(scenario(), 10))
