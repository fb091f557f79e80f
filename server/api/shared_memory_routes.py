"""The routes of V2's system shared memory extension. All are behind the guard: who may register may have memory read and written."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, Request

from server.api.bodies import documented, json_object
from server.api.guard import Guard
from server.api.shared_memory import Regions, offered

_BASE = "/systemsharedmemory"
_REGION = documented(key="string", offset="integer", byte_size="integer")


def add_shared_memory_routes(routes: APIRouter, guard: Guard, regions: Regions | None) -> None:
    """`regions` None: shared memory is turned off, the routes say so and are not documented."""
    if regions is None:
        _turned_off(routes)
    else:
        _turned_on(routes, guard, regions)


def _turned_on(routes: APIRouter, guard: Guard, regions: Regions) -> None:
    protected = [Depends(guard)]

    @routes.get(f"{_BASE}/status", dependencies=protected)
    async def system_shared_memory_status() -> list[dict[str, Any]]:
        return [region.to_json() for region in regions.status()]

    @routes.get(f"{_BASE}/region/{{region}}/status", dependencies=protected)
    async def system_shared_memory_region_status(region: str) -> list[dict[str, Any]]:
        return [one.to_json() for one in regions.status(region)]

    @routes.post(f"{_BASE}/region/{{region}}/register", dependencies=protected, openapi_extra=_REGION)
    async def register_system_shared_memory(region: str, request: Request) -> dict[str, Any]:
        """Make part of a POSIX shared memory object known by a name; tensors may then lie in it."""
        body = await json_object(request)
        regions.register(region, body.get("key"), body.get("offset", 0), body.get("byte_size"))
        return {}

    @routes.post(f"{_BASE}/region/{{region}}/unregister", dependencies=protected)
    async def unregister_system_shared_memory(region: str) -> dict[str, Any]:
        """Forget a name; harmless when it is not known. Once this is answered the memory is not touched any more."""
        regions.unregister(region)
        return {}

    @routes.post(f"{_BASE}/unregister", dependencies=protected)
    async def unregister_all_system_shared_memory() -> dict[str, Any]:
        """Forget every name."""
        regions.unregister_all()
        return {}


def _turned_off(routes: APIRouter) -> None:
    async def refuse() -> None:
        offered(None, "the system shared memory extension")

    async def unregister_all() -> dict[str, Any]:
        """Nothing is registered, so nothing is left to do: clients call this before anything else."""
        return {}

    for path, method in (("status", "GET"), ("region/{region}/status", "GET"), ("region/{region}/register", "POST"),
                         ("region/{region}/unregister", "POST")):  # fmt: skip
        routes.add_api_route(f"{_BASE}/{path}", refuse, methods=[method], include_in_schema=False)
    routes.add_api_route(f"{_BASE}/unregister", unregister_all, methods=["POST"], include_in_schema=False)
