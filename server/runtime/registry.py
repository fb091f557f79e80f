"""Which model versions are loaded, and what became of the others. The only place that loads and unloads."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from server.backends.base import Backends, LoadError, TokenizerLibrary
from server.contract.errors import ContractError
from server.contract.layout import check_model_name, model_names, versions
from server.core.lifecycle import State, step
from server.core.types import ModelKey
from server.errors import BadRequest, FerryError, NotFound, NotReady, NotYet
from server.generation.grammars import GrammarLibrary
from server.generation.texts import TextCodecs
from server.intake.errors import IntakeError
from server.intake.measure import Effort
from server.runtime.engine import Engine
from server.runtime.loading import Loaded, load_version, newest_version
from server.runtime.loading_decoder import AT_LOAD, DecoderLoader, LoadedDecoder
from server.runtime.measuring import Measuring, Pace, wants_measuring
from server.runtime.profile_cache import ProfileCache
from server.runtime.room import Room, Taken
from server.runtime.served import ServedModel
from server.runtime.served_decoder import ServedDecoder
from server.runtime.terms import Source, terms_of
from server.telemetry.metrics import Metrics
from server.telemetry.model_stats import ModelStats

log = logging.getLogger(__name__)

T = TypeVar("T")

Served = ServedModel | ServedDecoder
"""Of either kind: its requests take one step, or stay for many."""


@dataclass(slots=True)
class VersionStatus:
    """State of one version, with the reason when it is not available."""

    state: State = State.UNAVAILABLE
    reason: str = "not loaded"

    def become(self, state: State, reason: str = "") -> None:
        self.state, self.reason = step(self.state, state), reason


class Registry:
    """Models by name. At most one version of a model serves at a time; a newer one replaces it without a gap."""

    def __init__(
        self, repository: Path, backends: Backends, engine: Engine, metrics: Metrics,
        tokenizers: TokenizerLibrary | None = None, cache: ProfileCache | None = None, pace: Pace | None = None,
        codecs: TextCodecs | None = None, step_effort: Effort = AT_LOAD, grammars: GrammarLibrary | None = None,
        room: Room | None = None,
    ) -> None:  # fmt: skip
        """`tokenizers`: for versions that take text, `codecs`: for those that generate it; without them those are not loaded.
        `grammars`: None where answers are held to no schema. `step_effort`: of measuring the steps of those whose profile is of
        another machine, before they serve. `cache`: where profiles are kept that are measured here; `pace`: how eagerly that is
        done. `room`: memory that models may take; None: any amount."""
        self._repository = repository
        self._backends = backends
        self._tokenizers = tokenizers
        self._cache = cache or ProfileCache(None)
        self._decoders = DecoderLoader(backends.decoders, codecs, self._cache, step_effort, grammars)
        self._pace = pace or Pace()
        self._room = room or Room()
        self._taken: dict[ModelKey, Taken] = {}
        self._measuring: dict[ModelKey, asyncio.Task[None]] = {}
        self._engine = engine
        self._metrics = metrics
        self._serving: dict[str, Served] = {}
        self._status: dict[str, dict[int, VersionStatus]] = defaultdict(dict)
        self._failed: dict[str, str] = {}
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._n_loads = 0
        self._changed = asyncio.Event()
        self._changing: set[asyncio.Task[Any]] = set()
        self._listeners: list[Callable[[], Awaitable[None]]] = []

    @property
    def served(self) -> list[Served]:
        """All models that take requests, by name."""
        return [self._serving[name] for name in sorted(self._serving)]

    @property
    def serving(self) -> list[ServedModel]:
        """Those of them that take tensors (or texts) and give tensors, in one step."""
        return [model for model in self.served if isinstance(model, ServedModel)]

    def generates(self, name: str) -> bool:
        """Whether a model of this name serves, and generates. Satisfies generation.serving.GeneratingModels."""
        return isinstance(self._serving.get(name), ServedDecoder)

    def find(self, name: str, version: str | None = None) -> ServedModel:
        """The served version of a model that answers in one step. Raises NotFound or NotReady, naming what there is; BadRequest for one
        that generates."""
        model = self.find_served(name, version)
        if isinstance(model, ServedModel):
            return model
        raise BadRequest(
            f"model {name!r} generates text: ask it with /v1/completions, /v1/chat/completions or /v2/models/{name}/generate instead"
        )

    def find_generating(self, name: str, version: str | None = None) -> ServedDecoder:
        """The served version of a model that generates. Satisfies generation.serving.GeneratingModels."""
        model = self.find_served(name, version)
        if isinstance(model, ServedDecoder):
            return model
        raise BadRequest(f"model {name!r} does not generate: ask it with /v2/models/{name}/infer instead")

    def find_served(self, name: str, version: str | None = None) -> Served:
        """Of whatever kind. Raises NotFound or NotReady, naming what there is."""
        model = self._serving.get(name)
        if model is not None and (version is None or version == str(model.key.version)):
            return model
        raise self._why_not(name, version)

    def status(self, name: str) -> dict[int, VersionStatus]:
        """Versions of a model that are on disk or still loaded, ascending."""
        known = self._status[name]
        for version in versions(self._repository / name):
            known.setdefault(version, VersionStatus())
        return dict(sorted(known.items()))

    def names(self) -> list[str]:
        """Every model on disk or loaded, sorted."""
        return sorted({*model_names(self._repository), *self._serving})

    def problem(self, name: str) -> str | None:
        """Why a model that is on disk does not serve; None when it does."""
        return None if name in self._serving else self._failed.get(name, "not loaded")

    @property
    def ready(self) -> bool:
        """Strict: every model that is to be served is."""
        return not self._failed

    def change(self) -> Coroutine[Any, Any, object]:
        """To be awaited: ends when a model begins or stops to serve, or fails to, after this call."""
        return self._changed.wait()

    def before_retiring(self, listener: Callable[[], Awaitable[None]]) -> None:
        """Await `listener` whenever a model is about to take no more requests: it is not listed any more, but still runs."""
        self._listeners.append(listener)

    async def load_all(self) -> None:
        """Load what the repository holds; a model that fails is reported and does not stop the others."""
        for name in model_names(self._repository):
            self._failed[name] = "loading"
        if not self._failed:
            log.warning("%s holds no model yet: publish one with `ferry optimize` or the admin API", self._repository)
        results = await asyncio.gather(*(self.load(name) for name in self._failed), return_exceptions=True)
        for result in results:
            if isinstance(result, FerryError):
                log.error("%s", result)
            elif isinstance(result, BaseException):
                raise result

    async def load(self, name: str) -> Served:
        """Load the newest version of a model, or load it again; the version that serves goes on until it is ready.

        Raises NotFound for an unknown model, BadRequest for one that breaks the contract or cannot be loaded.
        """
        return await self._to_the_end(self._load(name, None))

    async def _load(self, name: str, version: int | None) -> Served:
        """Likewise for one version; None: the newest."""
        self._check_known(name)
        async with self._locks[name]:
            version = version or await self._newest(name)
            status = self.status(name)[version]
            reload = status.state is State.READY
            if not reload:
                status.become(State.LOADING)
            try:
                loaded = await asyncio.to_thread(
                    load_version,
                    self._repository / name,
                    version,
                    self._backends,
                    self._tokenizers,
                    self._cache,
                    self._decoders,
                    self._room,
                )
            except Exception as error:  # whatever is wrong with one model, the others are served
                if not isinstance(error, (ContractError, LoadError, IntakeError)):
                    log.exception("%s/%d: loading failed in an unforeseen way", name, version)
                reason = str(error) if name in str(error) else f"{name}/{version}: {error}"
                if not reload:
                    status.become(State.UNAVAILABLE, reason)
                raise self._note_failure(name, reason) from error
            if not reload:
                status.become(State.READY)
            return await self._serve(loaded)

    async def unload(self, name: str) -> None:
        """Stop serving a model: accepted requests are answered, then its memory is given back. Raises NotFound."""
        await self._to_the_end(self._unload(name))

    async def _to_the_end(self, work: Coroutine[Any, Any, T]) -> T:
        """Who asked for it may go away, as gRPC's callers do at their deadline: half a load or unload would stay one for ever."""
        task = asyncio.get_running_loop().create_task(work)
        self._changing.add(task)
        task.add_done_callback(self._changing.discard)
        return await asyncio.shield(task)

    async def _unload(self, name: str) -> None:
        self._check_known(name)
        async with self._locks[name]:
            self._failed.pop(name, None)
            model = self._serving.pop(name, None)
            self._announce()
            if model is not None:
                await self._retire(model, "unloaded by request")

    async def close(self) -> None:
        """Answer what was accepted, then stop everything."""
        await asyncio.gather(*self._changing, return_exceptions=True)  # whoever asked for that is told
        models = self.served
        self._serving.clear()
        await asyncio.gather(*(self._retire(model, "the server stopped") for model in models))

    def _announce(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _newest(self, name: str) -> int:
        try:
            return newest_version(self._repository / name)
        except ContractError as error:
            raise self._note_failure(name, str(error)) from error

    def _note_failure(self, name: str, reason: str) -> BadRequest:
        if name not in self._serving:
            self._failed[name] = reason
            self._announce()
        return BadRequest(reason)

    async def _serve(self, loaded: Loaded | LoadedDecoder) -> Served:
        self._n_loads += 1
        key = ModelKey(loaded.files.manifest.name, loaded.files.version, self._n_loads)
        model = self._open(key, loaded)
        self._taken[key] = loaded.taken
        old = self._serving.get(key.name)
        self._serving[key.name] = model
        self._failed.pop(key.name, None)
        self._announce()
        log.info("%s/%d: serving, SLO %g ms, %s", key.name, key.version, model.slo_s * 1e3, model.terms.why)
        if old is not None:
            replaced = old.key.version != key.version
            await self._retire(old, f"replaced by version {key.version}" if replaced else None)
        return model

    def _open(self, key: ModelKey, loaded: Loaded | LoadedDecoder) -> Served:
        """In the engine; what is to be measured meanwhile begins to be."""
        metrics = self._metrics.open(key)
        if isinstance(loaded, LoadedDecoder):
            decoder = ServedDecoder(key, loaded, metrics, self._metrics.generating)
            self._engine.open_generating(decoder)
            return decoder
        stats = ModelStats(key, metrics)
        model = ServedModel(key, loaded.files, loaded.wants, loaded.terms, loaded.session, stats, loaded.reader, loaded.text)
        self._engine.open(model)
        if wants_measuring(loaded.terms, model.slo_s):
            self._measuring[key] = asyncio.create_task(self._measure(model, loaded))
            self._measuring[key].add_done_callback(_tell_bug)
        return model

    async def _measure(self, model: ServedModel, loaded: Loaded) -> None:
        """In the background: learn what batches take on this machine, serve by that, and keep it for the next start."""
        try:
            profiles = await Measuring(self._engine, model, loaded.device, self._pace).run()
            if profiles is None:
                log.info(
                    "%s: its batches are too long for its SLO to be tried out; it goes on learning from requests", model.key
                )
                return
            await asyncio.to_thread(self._cache.put, model.manifest, profiles)
            terms = terms_of(model.manifest, loaded.wants, profiles, Source.MEASURED)
            log.info("%s: measured in its idle time; it is served by that from now on", model.key)
            if (terms.placement, terms.inline) == (model.placement, model.inline):
                self._engine.recost(model, terms)
                self._announce()
            else:
                await self._load(model.key.name, model.key.version)
        except FerryError as error:
            log.warning("%s: cannot be measured while it serves: %s", model.key, error)

    async def _retire(self, model: Served, reason: str | None) -> None:
        """Drain and close; `reason` None: the same version goes on serving under a new key."""
        status = self._status[model.key.name][model.key.version]
        if reason is not None:
            status.become(State.UNLOADING)
        measuring = self._measuring.pop(model.key, None)
        if measuring is not None and measuring is not asyncio.current_task():
            measuring.cancel()
        for listener in self._listeners:
            await listener()
        if isinstance(model, ServedModel):
            await self._engine.close(model)
        else:
            await self._engine.close_generating(model)
        self._room.give_back(self._taken.pop(model.key))
        self._metrics.close(model.key)
        if reason is not None:
            status.become(State.UNAVAILABLE, reason)

    def _check_known(self, name: str) -> None:
        """Also keeps names like '../x' away from the disk."""
        try:
            check_model_name(name)
        except ContractError as error:
            raise NotFound(str(error)) from None
        if name not in self._serving and not (self._repository / name).is_dir():
            raise NotFound(f"unknown model {name!r}; the repository holds {_listing(self.names())}")

    def _why_not(self, name: str, version: str | None) -> FerryError:
        if name not in self.names():
            return NotFound(f"unknown model {name!r}; this server has {_listing(sorted(self._serving))}")
        status = self.status(name)
        if version is None:
            is_loading = any(entry.state is State.LOADING for entry in status.values())
            return (NotYet if is_loading else NotReady)(f"model {name!r} is not ready: {self.problem(name)}")
        known = next((entry for number, entry in status.items() if str(number) == version), None)
        if known is None:
            return NotFound(f"model {name!r} has no version {version!r}; it has {_listing(list(map(str, status)))}")
        why = f"model {name}/{version} is not ready ({known.state.value}): {known.reason}"
        return NotYet(why) if known.state is State.LOADING else NotReady(why)


def _tell_bug(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("a bug in ferry: a model is not measured, it goes on learning", exc_info=error)


def _listing(names: list[str]) -> str:
    return ", ".join(names) or "none"
