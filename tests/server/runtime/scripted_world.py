"""A registry, engine and infer route over the scripted backend, driven through ASGI without a socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from server.api.codecs import Codecs
from server.api.disconnects import DisconnectWatch
from server.api.infer import InferRoutes
from server.api.shared_memory import Regions
from server.backends.base import Backend, Backends, TokenizerLibrary
from server.backends.scripted import Script, ScriptedBackend
from server.contract.classes import Classes
from server.contract.device import this_device
from server.contract.layout import MANIFEST, PROFILE, describe_file, write_json
from server.contract.manifest import Manifest, Ragged
from server.contract.profile import Cell, Placement, Profile
from server.contract.profiles import Profiles
from server.contract.publish import publish, staging
from server.contract.tensors import DataType, TensorSpec
from server.contract.wants import Wants
from server.recording.file import Header, Recording, pieces, read
from server.recording.replay import first_difference
from server.recording.telling import difference_lines
from server.runtime import reply_time
from server.runtime.clock import monotonic_clock
from server.runtime.engine import Engine
from server.runtime.measuring import Pace
from server.runtime.profile_cache import ProfileCache
from server.runtime.registry import Registry
from server.runtime.room import Room
from server.telemetry.metrics import Metrics
from tests.child_server import Reply

LIMIT_S = 20.0
EAGER = Pace(quiet_s=0.0, most_s=0.001)
"""Tries batches out whenever nothing else is to be done."""

MODEL = "fake"
_X, _Y = TensorSpec("x", DataType.FP32, ("batch", 1)), TensorSpec("y", DataType.FP32, ("batch", 1))
_RAGGED_X = TensorSpec("x", DataType.FP32, ("batch", "length"))


def doubled(inputs: Any) -> list[Any]:
    """The fake's right answer."""
    return [2 * inputs["x"]]


def publish_fake(
    repository: Path, name: str = MODEL, slo_s: float = LIMIT_S, max_rows: int = 8, instances: int = 1,
    batch_s: float = 1e-3, row_s: float = 0.0, ragged: Ragged | None = None, classes: Classes | None = None,
) -> int:  # fmt: skip
    """A version whose batches take `batch_s`, and `row_s` for each row."""
    lengths = (ragged.shortest, ragged.longest) if ragged else (0,)
    cells = tuple(_cell(rows, n, batch_s + row_s * rows) for n in lengths for rows in sorted({1, max_rows}))
    profiles = Profiles((Profile(this_device(ScriptedBackend.runtime), Placement(instances, 1), cells),))
    x, y = (_RAGGED_X, TensorSpec("y", DataType.FP32, ("batch", "length"))) if ragged else (_X, _Y)
    repository.mkdir(exist_ok=True)
    with staging(repository) as folder:
        version = folder / "version"
        version.mkdir()
        (version / ScriptedBackend.model_file).write_text("answers as the test's Script says\n")
        files = (describe_file(version / ScriptedBackend.model_file),)
        manifest = Manifest(name, ScriptedBackend.name, files, (x,), (y,), ragged, max_rows, (), None)
        write_json(version / MANIFEST, manifest.to_json())
        write_json(version / PROFILE, profiles.to_json())
        return publish(version, repository, name, Wants(slo_s, declared=classes))


def _cell(rows: int, length: int, takes_s: float) -> Cell:
    return Cell(rows, length, takes_s, takes_s, takes_s, 1, 0)


@dataclass(slots=True)
class Client:
    """One request under way."""

    task: asyncio.Task[Reply | None]
    gone: asyncio.Event

    def hang_up(self) -> None:
        self.gone.set()


@dataclass(slots=True)
class World:
    """All parts of a server except the socket."""

    repository: Path
    script: Script
    engine: Engine
    registry: Registry
    metrics: Metrics
    infer: InferRoutes
    clients: list[Client] = field(default_factory=list)

    def ask(self, *values: float, model: str = MODEL, timeout_us: int = 0, width: int = 1) -> Client:
        """Send one request of so many rows (or of one row, `width` wide, when that is more than one)."""
        shape = [1, width] if width > 1 else [len(values), 1]
        parameters = {"timeout": timeout_us} if timeout_us else {}
        body = {"inputs": [{"name": "x", "shape": shape, "datatype": "FP32", "data": list(values)}], "parameters": parameters}
        return self.post(body, model)

    def post(self, body: Any, model: str = MODEL, headers: Mapping[str, str] | None = None) -> Client:
        """Send an infer request of one's own."""
        gone = asyncio.Event()
        sending = _asgi_post(self.infer, f"/v2/models/{model}/infer", body, gone, headers or {})
        task = asyncio.get_running_loop().create_task(sending)
        self.clients.append(Client(task, gone))
        return self.clients[-1]

    async def answers(self, clients: Sequence[Client]) -> list[Reply | None]:
        return list(await asyncio.wait_for(asyncio.gather(*(client.task for client in clients)), LIMIT_S))

    async def reaches(self, true: Callable[[], bool]) -> None:
        """Wait for a state."""

        async def poll() -> None:
            while not true():
                await asyncio.sleep(0.001)

        await asyncio.wait_for(poll(), LIMIT_S)

    async def blocked(self, *values: float) -> Client:
        """Block the device with a request and return it, once it runs."""
        self.script.block()
        before = len(self.script.batches)
        first = self.ask(*(values or (0.0,)))
        await self.reaches(lambda: len(self.script.batches) > before)
        return first

    async def blocked_ragged(self) -> Client:
        """The same for a model with a ragged axis."""
        self.script.block()
        before = len(self.script.batches)
        first = self.ask(0.0, 0.0, width=2)
        await self.reaches(lambda: len(self.script.batches) > before)
        return first

    def waiting(self, model: str = MODEL) -> int:
        """How many requests have not begun to run: those in the queue, and those in a batch formed ahead."""
        lane = self.engine.lane(self.registry.find(model).key)
        if lane is None:
            return 0
        ahead = [running.batch for running in lane.running.values() if not running.began]
        return len(lane.waiting) + sum(len(batch.requests) for batch in ahead)

    async def queued(self, count: int) -> None:
        await self.reaches(lambda: self.waiting() == count)

    def recording(self) -> Recording:
        """What the flight recorder has, read as from a file."""
        header = Header("test", "a test", monotonic_clock(), 0, reply_time.LEAST_S, reply_time.SHARE)
        return read(b"".join(pieces(header, self.engine.ring.chunks())))

    def check_recording(self) -> None:
        """Whatever a test did, a scheduler that is told the same decides the same."""
        difference = first_difference(self.recording())
        assert difference is None, list(difference_lines(difference, 0.0))

    def sample(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, {"model": MODEL, "version": "1", **labels}) or 0.0


@asynccontextmanager
async def infer_routes(engine: Engine, registry: Registry, regions: Regions | None = None) -> AsyncIterator[InferRoutes]:
    """The wire in front of the engine. `tests.server.fleet` puts two processes' ends of a connection in between."""
    yield InferRoutes(engine, registry, Codecs(regions), DisconnectWatch(asyncio.get_running_loop()), 1 << 20, _no)


@asynccontextmanager
async def world(
    repository: Path, script: Script | None = None, tokenizers: TokenizerLibrary | None = None, regions: Regions | None = None,
    cache: ProfileCache | None = None, room: Room | None = None, backend: Callable[[Script], Backend] = ScriptedBackend,
) -> AsyncIterator[World]:  # fmt: skip
    """Load everything in `repository`; at the end drain, and leave no task behind. `regions`: shared memory is turned on. `backend`: makes
    the one that serves."""
    loop = asyncio.get_running_loop()
    script = script or Script(doubled)
    metrics, engine = Metrics(monotonic_clock), Engine(loop, monotonic_clock)
    registry = Registry(
        repository, Backends({ScriptedBackend.name: backend(script)}), engine, metrics, tokenizers, cache, EAGER, room=room
    )
    await registry.load_all()
    async with infer_routes(engine, registry, regions) as infer:
        made = World(repository, script, engine, registry, metrics, infer)
        try:
            yield made
        finally:
            script.release()
            await asyncio.wait_for(registry.close(), LIMIT_S)
            for client in made.clients:
                client.task.cancel()
            await asyncio.gather(*(client.task for client in made.clients), return_exceptions=True)
        made.check_recording()


def values(reply: Reply | None) -> list[float]:
    """The answer of a good reply."""
    assert reply is not None
    assert reply.status == 200, reply
    return list(np.asarray(reply.json["outputs"][0]["data"], dtype=float))


async def _no(*_: Any) -> None:
    raise AssertionError("not an infer path")


async def _asgi_post(app: InferRoutes, path: str, body: Any, gone: asyncio.Event, headers: Mapping[str, str]) -> Reply | None:
    """None when nothing was answered."""
    data = json.dumps(body).encode()
    incoming = [{"type": "http.request", "body": data, "more_body": False}]
    sent: list[Any] = []

    async def receive() -> Any:
        if incoming:
            return incoming.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    given = [(name.encode(), value.encode()) for name, value in headers.items()]
    await app({"type": "http", "method": "POST", "path": path, "headers": given}, receive, send)
    if not sent:
        return None
    told = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return Reply(sent[0]["status"], told, b"".join(message.get("body", b"") for message in sent[1:]))
