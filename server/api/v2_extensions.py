"""V2's extensions about the server itself: logging, shared memory, and those that answer why they are not offered."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, Request

from server.api.bodies import documented, json_object
from server.api.guard import Guard
from server.api.shared_memory import Regions
from server.api.shared_memory_routes import add_shared_memory_routes
from server.errors import Unsupported
from server.runtime.registry import Registry
from server.telemetry.log_levels import LogLevels

LOG_SETTINGS = documented(log_info="boolean", log_warning="boolean", log_error="boolean", log_verbose_level="integer")


def extension_routes(registry: Registry, guard: Guard, levels: LogLevels, regions: Regions | None) -> APIRouter:
    """Routes under /v2. `guard` protects what changes the server; `regions` None: shared memory is turned off."""
    routes = APIRouter(prefix="/v2", tags=["KServe V2"])

    @routes.get("/logging")
    async def log_settings() -> dict[str, bool | int]:
        """Which kinds of records are logged."""
        return levels.to_json()

    @routes.post("/logging", dependencies=[Depends(guard)], openapi_extra=LOG_SETTINGS)
    async def change_log_settings(request: Request) -> dict[str, bool | int]:
        """Switch kinds of log records on or off, at once; the reply holds all settings."""
        levels.change(await json_object(request))
        return levels.to_json()

    add_shared_memory_routes(routes, guard, regions)
    _not_offered(routes, registry)
    return routes


def _not_offered(routes: APIRouter, registry: Registry) -> None:
    """Parts of the protocol that clients may try: they get a reason, not an unknown route."""

    def refuse(why: str, *paths: str, methods: tuple[str, ...]) -> None:
        async def answer(request: Request) -> None:
            name, version = request.path_params.get("model"), request.path_params.get("version")
            if name is not None:
                registry.find(name, version)  # an unknown model is the better reason
            raise Unsupported(why)

        for path in paths:
            routes.add_api_route(path, answer, methods=list(methods), include_in_schema=False)

    trace = "the trace extension is not offered by this server"
    refuse(trace, "/trace/setting", "/models/{model}/trace/setting", methods=("GET", "POST"))
    repositories = "repositories have no names here; use /v2/repository/index and /v2/repository/models/NAME/load or unload"
    refuse(
        repositories, "/repository/{repository}/index", *(f"/repository/{{repository}}/models/{{name}}/{verb}" for verb in _CONTROL),
        methods=("POST",),
    )  # fmt: skip
    base = "/cudasharedmemory"
    refuse(NO_CUDA, f"{base}/status", f"{base}/region/{{region}}/status", methods=("GET",))
    refuse(NO_CUDA, f"{base}/region/{{region}}/register", f"{base}/region/{{region}}/unregister", methods=("POST",))

    async def unregister_all() -> dict[str, Any]:
        """Nothing is registered, so nothing is left to do: clients call this before anything else."""
        return {}

    routes.add_api_route(f"{base}/unregister", unregister_all, methods=["POST"], include_in_schema=False)


NO_CUDA = (
    "the cuda shared memory extension is not offered by this server; send tensors in the body, or use system shared memory"
)

_CONTROL = ("load", "unload")
