"""Composition root: the only module that knows all the parts. Builds the application, owns its start and stop."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
from collections.abc import AsyncIterator, Callable, MutableMapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException

from server import __version__
from server.api.admin import admin_routes
from server.api.asgi import App, Send
from server.api.clients import Clients
from server.api.codecs import Codecs
from server.api.disconnects import DisconnectWatch, Receive
from server.api.errors_http import INTERNAL, error_reply
from server.api.fast_lane import FastLane
from server.api.generation.routes import CompletionRoutes
from server.api.generation.triton_routes import GenerateRoutes
from server.api.guard import Guard
from server.api.infer import InferRoutes
from server.api.infer_head import Scope
from server.api.keys import Keys, keys_of
from server.api.known_heads import KnownHeads
from server.api.load_shedding import LoadShedder
from server.api.openai_routes import OpenAiRoutes
from server.api.openapi import document
from server.api.recording_routes import recording_routes
from server.api.shared_memory import Regions
from server.api.v2_extensions import extension_routes
from server.api.v2_routes import v2_routes
from server.backends.catalog import find_backends
from server.backends.cuda_memory import find_card
from server.backends.guidance import Guidance
from server.backends.hf_tokenizers import HfTokenizers
from server.backends.nvidia import open_reader
from server.contract.publish import sweep
from server.errors import BadRequest, FerryError, MethodNotAllowed, NotFound
from server.fleet.hub import Hub
from server.grpc_api.front import GrpcFront, PortTaken
from server.runtime.clock import busy_clock, calendar_ms, monotonic_clock
from server.runtime.engine import Engine
from server.runtime.profile_cache import ProfileCache
from server.runtime.rationed import RationedEngine
from server.runtime.recorder import Recorder, folder_of
from server.runtime.registration import Registrar
from server.runtime.registry import Registry
from server.runtime.room import Room
from server.settings import Settings, profile_cache_folder
from server.telemetry.log_levels import LogLevels
from server.telemetry.metrics import Metrics

log = logging.getLogger(__name__)


class Ferry:
    """The ASGI application. Parts are made at start-up, on the event loop that will run them."""

    def __init__(self, settings: Settings, frames: Path | None = None) -> None:
        """`frames`: where front ends in other processes connect; None when there are none. To be set before the start: `broken`,
        which is called if a bug has ended the engine, and so should this process."""
        self._settings = settings
        self._web = FastAPI(title="ferry", version=__version__, lifespan=self._lifespan, redirect_slashes=False)
        self.metrics = Metrics(monotonic_clock)
        self.broken: Callable[[], None] = _nothing
        self.fast_lane: FastLane | None = None
        self._infer: InferRoutes | None = None
        self._grpc: GrpcFront | None = None
        self._frames = frames
        _install_error_handlers(self._web)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._infer is not None and scope["type"] == "http":
            await self._infer(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(scope, receive, send)
        else:
            await self._web(scope, receive, send)

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Start and stop; a start that fails for a reason outside is told in words instead of a traceback."""

        async def tell(message: MutableMapping[str, Any]) -> None:
            error = sys.exc_info()[1] if message["type"] == "lifespan.startup.failed" else None
            await send({**message, "message": str(error)} if isinstance(error, PortTaken) else message)

        await self._web(scope, receive, tell)

    @asynccontextmanager
    async def _lifespan(self, web: FastAPI) -> AsyncIterator[None]:
        settings = self._settings
        loop = asyncio.get_running_loop()
        metrics = self.metrics
        engine, clients = self._make_engine(loop)
        cache = ProfileCache(profile_cache_folder(settings))
        texts = HfTokenizers(calendar_ms)
        room = Room(settings.model_memory_bytes, settings.card_memory_bytes)
        registry = Registry(
            settings.repository, find_backends(), engine, metrics, texts, cache, codecs=texts, grammars=Guidance(), room=room
        )
        guard = Guard(settings.admin_token, settings.host)
        regions = Regions(settings.max_body_bytes) if settings.shared_memory == "on" else None
        keys = keys_of(settings.api_keys, settings.admin_token)
        self._grpc = self._bind_grpc(engine, registry, guard, regions, clients, keys)
        registrar = Registrar(settings.repository, settings.max_upload_bytes, settings.registration_timeout_s)
        web.include_router(v2_routes(registry, guard, regions))
        web.include_router(extension_routes(registry, guard, LogLevels(logging.getLogger()), regions))
        web.include_router(admin_routes(registry, registrar, guard))
        recorder = Recorder(engine, metrics, monotonic_clock, folder_of(settings.recordings))
        web.include_router(recording_routes(recorder, guard))
        _add_metrics_route(web, metrics)
        web.openapi = partial(document, web, keys is not None)  # type: ignore[method-assign]  # the way FastAPI wants it extended
        for folder in await asyncio.to_thread(sweep, settings.repository):
            log.warning("removed %s, left behind by a publisher that was killed", folder)
        await registry.load_all()
        codecs, watch = Codecs(regions), DisconnectWatch(loop)
        other = _openai_and_generate_routes(engine, registry, watch, settings.max_body_bytes, web, clients)
        self._infer = InferRoutes(
            engine, registry, codecs, watch, settings.max_body_bytes, other, settings.compress_from_bytes, clients
        )
        heads = KnownHeads(settings.max_body_bytes, settings.compress_from_bytes > 0, clients, keys)
        self.fast_lane = FastLane(heads, engine, registry, codecs, LoadShedder(loop, monotonic_clock, busy_clock), clients)
        hub = None
        if self._frames is not None:
            hub = Hub(loop, engine, registry)
            hub.start(self._frames)
        if self._grpc is not None:
            await self._grpc.start()
        log.info("admin API: %s", guard.state)
        if regions is not None:
            log.info("system shared memory: on, for who may use the admin API")
        forget_card = _watch_card(metrics)
        recording = loop.create_task(recorder.watch(lambda: registry.served))
        _settle_memory()
        yield
        recording.cancel()
        await self.drain()
        await registry.close()
        if hub is not None:
            await hub.close()
        if regions is not None:
            regions.unregister_all()
        forget_card()

    async def drain(self) -> None:
        """Let gRPC take nothing new and answer what it accepted; HTTP's own server does the same for HTTP."""
        if self._grpc is not None:
            await self._grpc.drain(self._settings.drain_timeout_s)

    def _make_engine(self, loop: asyncio.AbstractEventLoop) -> tuple[Engine, Clients | None]:
        """Who is not told to ration does not even ask who a client is."""
        settings = self._settings
        if not settings.client_share:
            return Engine(loop, monotonic_clock, self.broken), None
        log.info(
            "client_share: %g of the device's time for each, told apart by %s", settings.client_share, settings.client_header
        )
        clients = Clients(settings.client_header, behind_front_ends=self._frames is not None)
        return RationedEngine(loop, monotonic_clock, settings.client_share, settings.client_burst_s, self.broken), clients

    def _bind_grpc(
        self, engine: Engine, registry: Registry, guard: Guard, regions: Regions | None, clients: Clients | None,
        keys: Keys | None,
    ) -> GrpcFront | None:  # fmt: skip
        """Before the models are loaded, so that a port in use is told at once. Raises PortTaken for a port that was asked for."""
        settings = self._settings
        if settings.grpc_port == "off":
            return None
        try:
            return GrpcFront(
                settings.host, settings.grpc_port, engine, registry, guard, settings.max_body_bytes, settings.idle_timeout_s,
                settings.receive_timeout_s, regions, clients, keys,
            )  # fmt: skip
        except PortTaken as error:
            if "grpc_port" in settings.model_fields_set:
                raise
            log.warning("no gRPC: %s", error)
            return None


def _openai_and_generate_routes(
    engine: Engine, registry: Registry, watch: DisconnectWatch, max_body_bytes: int, web: FastAPI, clients: Clients | None
) -> App:
    """One behind the other: each passes on what is not its own."""
    openai = OpenAiRoutes(engine, registry, watch, max_body_bytes, web, clients)
    triton = GenerateRoutes(engine, registry, max_body_bytes, openai, clients)
    return CompletionRoutes(engine, registry, max_body_bytes, triton, clients)


def _settle_memory() -> None:
    """Keep what start-up made out of the garbage collector's sight: walking it again and again stops the event loop
    for some 20 ms at a time, which is a whole SLO for a small model."""
    gc.collect()
    gc.freeze()


def _watch_card(metrics: Metrics) -> Callable[[], None]:
    """Metrics of the card that models use, until the result is called; none where there is no card."""
    card = find_card()
    if card is None:
        return _nothing
    reader = open_reader(card)
    if isinstance(reader, str):
        log.warning("no metrics of the card: %s", reader)
        return _nothing
    stop_export = metrics.watch_card(reader.read)

    def forget() -> None:
        stop_export()
        reader.close()

    return forget


def _nothing() -> None:
    """Nothing is to be done."""


def _add_metrics_route(web: FastAPI, metrics: Metrics) -> None:
    @web.get("/metrics", tags=["metrics"])
    def scrape() -> Response:
        """Prometheus text. A plain `def`: rendering takes milliseconds and stays off the event loop."""
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)


def _install_error_handlers(web: FastAPI) -> None:
    """V2's error body everywhere, the framework's own errors included."""

    def reply(error: FerryError) -> Response:
        status, headers, body = error_reply(error)
        return Response(body, status, {name.decode(): value.decode() for name, value in headers})

    @web.exception_handler(FerryError)
    async def ours(_: Request, error: FerryError) -> Response:
        return reply(error)

    @web.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return reply(BadRequest(f"{'.'.join(map(str, first['loc']))}: {first['msg']}"))

    @web.exception_handler(HTTPException)
    async def framework(request: Request, error: HTTPException) -> Response:
        if error.status_code == 405:
            return reply(MethodNotAllowed(f"{request.url.path} does not take {request.method}"))
        if error.status_code == 404:
            return reply(NotFound(f"no route {request.url.path!r}; GET /docs lists what there is"))
        return reply(BadRequest(str(error.detail)))

    @web.exception_handler(Exception)
    async def bug(_: Request, error: Exception) -> Response:
        log.error("a bug in ferry", exc_info=error)
        return reply(FerryError(INTERNAL))
