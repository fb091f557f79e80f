"""The scripted world's wire, moved to the far end of a connection: everything but the process boundary is real."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from server.api.codecs import Codecs
from server.api.disconnects import DisconnectWatch
from server.api.infer import InferRoutes
from server.api.shared_memory import Regions
from server.fleet.hub import Hub
from server.fleet.remote import RemoteEngine
from server.fleet.table import ModelTable
from server.runtime.clock import monotonic_clock
from server.runtime.engine import Engine
from server.runtime.registry import Registry
from tests.server.runtime.scripted_world import LIMIT_S


@dataclass(slots=True)
class Far:
    """Both ends."""

    hub: Hub
    remote: RemoteEngine
    table: ModelTable


@asynccontextmanager
async def far_engine(engine: Engine, registry: Registry, is_heard: bool = True) -> AsyncIterator[Far]:
    """A front end's engine that is connected to `engine`, unless it is not expected to understand what it is told. At the end
    no request may be open."""
    loop = asyncio.get_running_loop()
    with TemporaryDirectory() as folder:
        address = Path(folder) / "frames"
        hub, table = Hub(loop, engine, registry), ModelTable()
        hub.start(address)
        remote = RemoteEngine(loop, monotonic_clock, address, table)
        connecting = loop.create_task(remote.stay_connected())
        assert not is_heard or await remote.connected(LIMIT_S)
        yield Far(hub, remote, table)
        assert remote.n_open == 0
        connecting.cancel()
        with suppress(asyncio.CancelledError):
            await connecting
        remote.close()
        await asyncio.wait_for(hub.close(), LIMIT_S)


@asynccontextmanager
async def far_infer_routes(engine: Engine, registry: Registry, regions: Regions | None = None) -> AsyncIterator[InferRoutes]:
    """For the scripted world."""
    async with far_engine(engine, registry) as far:
        yield InferRoutes(far.remote, far.table, Codecs(regions), DisconnectWatch(asyncio.get_running_loop()), 1 << 20, _no)


async def _no(*_: object) -> None:
    raise AssertionError("not an infer path")
