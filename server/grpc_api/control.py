"""Every unary call but inference: readiness, metadata, configuration, statistics, model repository."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from google.protobuf.json_format import ParseDict

from server import __version__
from server.api.guard import Guard
from server.api.shared_memory import Regions
from server.api.v2_routes import extensions
from server.errors import BadRequest, FerryError, Unsupported
from server.grpc_api import messages as pb
from server.grpc_api.call import Call
from server.grpc_api.describe import config, metadata
from server.grpc_api.shared_memory import SharedMemory
from server.grpc_api.statuses import Context, abort, parse, told
from server.runtime.registry import Registry, Served
from server.telemetry.model_stats import all_stats

Handler = Callable[[bytes, Context], Awaitable[bytes | None]]

NOT_OFFERED = (
    "CudaSharedMemoryStatus", "CudaSharedMemoryRegister", "TraceSetting", "LogSettings",
)  # fmt: skip
"""Methods of the protocol's extensions that answer UNIMPLEMENTED, in words."""


class Control:
    """The calls over one registry; `guard` protects those that change it."""

    def __init__(self, registry: Registry, guard: Guard, regions: Regions | None) -> None:
        """`regions` None: shared memory is turned off."""
        self._regions = regions
        self._registry = registry
        self._guard = guard

    def handlers(self) -> dict[str, Handler]:
        """A handler from bytes to bytes for every method."""
        calls = {
            "ServerLive": Call(pb.ServerLiveRequest, self._live),
            "ServerReady": Call(pb.ServerReadyRequest, self._ready),
            "ModelReady": Call(pb.ModelReadyRequest, self._model_ready),
            "ServerMetadata": Call(pb.ServerMetadataRequest, self._server_metadata),
            "ModelMetadata": Call(pb.ModelMetadataRequest, self._model_metadata),
            "ModelConfig": Call(pb.ModelConfigRequest, self._model_config),
            "ModelStatistics": Call(pb.ModelStatisticsRequest, self._statistics),
            "RepositoryIndex": Call(pb.RepositoryIndexRequest, self._index),
            "RepositoryModelLoad": Call(pb.RepositoryModelLoadRequest, self._load, changes_server=True),
            "RepositoryModelUnload": Call(pb.RepositoryModelUnloadRequest, self._unload, changes_server=True),
            **SharedMemory(self._regions).calls(),
        }
        offered = {name: self._handler(call) for name, call in calls.items()}
        return offered | {name: _not_offered(name) for name in NOT_OFFERED}

    def _handler(self, call: Call) -> Handler:
        async def answered(data: bytes, context: Context) -> bytes:
            if call.changes_server:
                self._guard.check(_header(context, "authorization"))
            reply = await call.answer(parse(call.takes.FromString, data, call.takes.DESCRIPTOR.name))
            packed: bytes = reply.SerializeToString()
            return packed

        async def handle(data: bytes, context: Context) -> bytes | None:
            reply = await told(answered(data, context))
            if isinstance(reply, FerryError):
                await abort(context, reply)
                return None
            return reply

        return handle

    def _find_served(self, request: Any) -> Served:
        return self._registry.find_served(request.name, request.version or None)

    async def _live(self, _: pb.ServerLiveRequest) -> pb.ServerLiveResponse:
        return pb.ServerLiveResponse(live=True)

    async def _ready(self, _: pb.ServerReadyRequest) -> pb.ServerReadyResponse:
        return pb.ServerReadyResponse(ready=self._registry.ready)

    async def _model_ready(self, request: pb.ModelReadyRequest) -> pb.ModelReadyResponse:
        """An unknown model is simply not ready."""
        serving = {model.key.name: str(model.key.version) for model in self._registry.served}
        version = serving.get(request.name)
        return pb.ModelReadyResponse(ready=version is not None and request.version in ("", version))

    async def _server_metadata(self, _: pb.ServerMetadataRequest) -> pb.ServerMetadataResponse:
        return pb.ServerMetadataResponse(name="ferry", version=__version__, extensions=extensions(self._regions))

    async def _model_metadata(self, request: pb.ModelMetadataRequest) -> pb.ModelMetadataResponse:
        return metadata(self._find_served(request))

    async def _model_config(self, request: pb.ModelConfigRequest) -> pb.ModelConfigResponse:
        return pb.ModelConfigResponse(config=config(self._find_served(request)))

    async def _statistics(self, request: pb.ModelStatisticsRequest) -> pb.ModelStatisticsResponse:
        if request.version and not request.name:
            raise BadRequest("a version without a model's name; give both, or neither for all models")
        models = [self._find_served(request)] if request.name else self._registry.served
        reply = pb.ModelStatisticsResponse()
        ParseDict(all_stats(model.stats for model in models), reply)
        return reply

    async def _index(self, request: pb.RepositoryIndexRequest) -> pb.RepositoryIndexResponse:
        _check_repository(request.repository_name)
        reply = pb.RepositoryIndexResponse()
        for name in self._registry.names():
            versions = self._registry.status(name)
            for version, status in versions.items():
                if not request.ready or status.state.value == "READY":
                    reply.models.add(name=name, version=str(version), state=status.state.value, reason=status.reason)
            if not versions and not request.ready:
                reply.models.add(name=name)
        return reply

    async def _load(self, request: pb.RepositoryModelLoadRequest) -> pb.RepositoryModelLoadResponse:
        _check_repository(request.repository_name)
        if request.parameters:
            raise BadRequest("load parameters are not supported: ferry loads what the repository holds")
        await self._registry.load(request.model_name)
        return pb.RepositoryModelLoadResponse()

    async def _unload(self, request: pb.RepositoryModelUnloadRequest) -> pb.RepositoryModelUnloadResponse:
        """unload_dependents is legal and has nothing to do here: no model depends on another."""
        _check_repository(request.repository_name)
        _check_unload(request.parameters)
        await self._registry.unload(request.model_name)
        return pb.RepositoryModelUnloadResponse()


def _not_offered(method: str) -> Handler:
    async def handle(_: bytes, context: Context) -> None:
        await abort(context, Unsupported(f"{method} is not offered by this server; ServerMetadata lists its extensions"))

    return handle


def _header(context: Context, name: str) -> str:
    found = {key: value for key, value in context.invocation_metadata() or ()}.get(name, "")
    return found if isinstance(found, str) else found.decode("latin-1")


def _check_repository(name: str) -> None:
    if name:
        raise Unsupported(f"repository_name {name!r}: this server has one repository, without a name; leave it empty")


def _check_unload(parameters: Mapping[str, Any]) -> None:
    unknown = sorted(set(parameters) - {"unload_dependents"})
    if unknown:
        raise BadRequest(f"unload has no parameter {unknown[0]!r}; it takes unload_dependents")
