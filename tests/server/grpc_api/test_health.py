"""The health service's watch, where timing decides: no change is missed while the client reads."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

pytest.importorskip("grpc_health")

from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from server.grpc_api.health import Health
from tests.server.runtime.scripted_world import publish_fake, world


class SlowReader:
    """A call's context whose client takes its time over the first message, during which the model goes."""

    def __init__(self, meanwhile: Any) -> None:
        self.told: list[str] = []
        self._meanwhile = meanwhile

    async def write(self, data: bytes) -> None:
        status = HealthCheckResponse.FromString(data).status
        self.told.append(HealthCheckResponse.ServingStatus.Name(status))
        if len(self.told) == 1:
            await self._meanwhile()


def test_a_change_while_the_client_reads_is_told(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_fake(tmp_path)
        async with world(tmp_path) as w:
            context, health = SlowReader(lambda: w.registry.unload("fake")), Health(w.registry)
            watching = asyncio.create_task(
                health.watch(HealthCheckRequest(service="fake").SerializeToString(), cast(Any, context))
            )
            await w.reaches(lambda: len(context.told) == 2)
            assert context.told == ["SERVING", "NOT_SERVING"]
            health.drain()
            await watching

    asyncio.run(scenario())
