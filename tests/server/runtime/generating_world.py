"""A registry and an engine over a repository of tiny decoders, with clients that remember what they were told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
from prometheus_client import generate_latest

from server.backends.base import Array, Backend, Backends
from server.backends.decoding import Decoder, DecoderBackend, Row
from server.backends.onnx_decoder import OnnxDecoderBackend
from server.contract.generation import Generation
from server.core.types import GenerateRequest
from server.errors import FerryError
from server.generation.options import Finish, LogProb, Prompt, Sampling
from server.intake.measure import Effort
from server.runtime.clock import monotonic_clock
from server.runtime.engine import Engine
from server.runtime.profile_cache import ProfileCache
from server.runtime.registry import Registry
from server.runtime.room import Room
from server.runtime.served_decoder import ServedDecoder
from server.telemetry.metrics import Metrics
from tests.decoders import IdCodec, TinyDecoder

LIMIT_S = 60.0
GREEDY = Sampling(temperature=0.0, ends=False)


class Client:
    """Satisfies TokenSink: whatever breaks its rules is kept in `broken`."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.scores: Sequence[LogProb] = ()
        self.n_cached: int | None = None
        self.finish: Finish | None = None
        self.error: FerryError | None = None
        self.broken: list[str] = []
        self.is_stopped = False
        self.over = asyncio.Event()
        self.request: GenerateRequest[Any] | None = None
        self.at_token: Callable[[int], None] = lambda _: None

    def began(self, n_cached: int, scores: Sequence[LogProb]) -> None:
        self.scores = scores
        self._check(self.n_cached is None)
        self.n_cached = n_cached

    def token(self, token: int, logprob: LogProb | None) -> None:
        self._check(self.n_cached is not None)
        self.tokens.append(token)
        self.at_token(len(self.tokens))

    def ended(self, why: Finish) -> None:
        self._check(bool(self.tokens))
        self.finish = why
        self.over.set()

    def failed(self, error: FerryError) -> None:
        self._check(True)
        self.error = error
        self.over.set()

    def _check(self, right: bool) -> None:
        if not right or self.over.is_set() or self.is_stopped:
            self.broken.append(f"{self.tokens} {self.finish} {self.error} {self.is_stopped}")


class Accidents:
    """A decoder of ONNX Runtime's that can be told to die, or to fail for one token. Satisfies Decoder."""

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder
        self.dies = False
        self.death: BaseException = MemoryError("planted")
        self.n_steps = 0

    @property
    def slots(self) -> int:
        return self.decoder.slots

    def prefill(self, slots: Sequence[int], prompts: Sequence[Array], start: int) -> Array:
        return self.decoder.prefill(slots, prompts, start)

    def score(self, slot: int, tokens: Array, start: int) -> Array:
        return self.decoder.score(slot, tokens, start)

    def decode(self, rows: Sequence[Row]) -> Array:
        self.n_steps += 1
        if self.dies:
            self.dies = False
            raise self.death
        return self.decoder.decode(rows)

    def copy(self, source: int, target: int, n_kept: int) -> None:
        self.decoder.copy(source, target, n_kept)

    def close(self) -> None:
        self.decoder.close()


class AccidentalBackend(OnnxDecoderBackend):
    """Remembers what it loaded."""

    def __init__(self) -> None:
        self.loaded: list[Accidents] = []

    def load(self, folder: Path, generation: Generation, slots: int, threads: int) -> Decoder:
        self.loaded.append(Accidents(super().load(folder, generation, slots, threads)))
        return self.loaded[-1]


class GeneratingWorld:
    """See above."""

    def __init__(
        self,
        repository: Path,
        kept: Path | None,
        backends: Sequence[Backend],
        room: Room | None = None,
        engine: Engine | None = None,
    ) -> None:
        self.backend = AccidentalBackend()
        self.metrics = Metrics(monotonic_clock)
        self.engine = engine or Engine(asyncio.get_running_loop(), monotonic_clock)
        decoders: Mapping[str, DecoderBackend] = {self.backend.name: self.backend}
        self.registry = Registry(
            repository, Backends({one.name: one for one in backends}, decoders=decoders), self.engine, self.metrics, cache=ProfileCache(kept), codecs=IdCodec(),
            step_effort=Effort(0.001, n_least=1, n_most=2), room=room,
        )  # fmt: skip
        self.clients: list[Client] = []

    @property
    def model(self) -> ServedDecoder:
        return self.registry.find_generating("tiny")

    def ask(
        self, ids: Sequence[int] | Array, new_tokens: int, sampling: Sampling = GREEDY, timeout_s: float | None = None,
        model: ServedDecoder | None = None, who: int = 0,
    ) -> Client:  # fmt: skip
        client = Client()
        prompt = Prompt([int(one) for one in ids], new_tokens)
        if who:
            self.engine.charge_prompts(model or self.model, [prompt], who)
        client.request = self.engine.generate(model or self.model, prompt, sampling, client, timeout_s, client=who)
        self.clients.append(client)
        return client

    def stop(self, client: Client, why: Finish | None = None) -> None:
        assert client.request is not None
        client.is_stopped = not client.over.is_set()
        self.engine.stop(client.request, why)

    async def over(self, *clients: Client) -> None:
        async with asyncio.timeout(LIMIT_S):
            for client in clients:
                if not client.is_stopped:
                    await client.over.wait()

    async def reaches(self, state: Callable[[], bool]) -> None:
        async with asyncio.timeout(LIMIT_S):
            while not state():
                await asyncio.sleep(0.001)

    def sample(self, name: str) -> float:
        """A metric's value."""
        lines = generate_latest(self.metrics.registry).decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.split("{")[0] == name)

    def check(self) -> None:
        """No client was told too much, and nothing is left behind."""
        assert [client.broken for client in self.clients if client.broken] == []
        assert self.sample("ferry_in_flight") == 0
        for model in self.registry.served:
            lane = self.engine.resident_lane(model.key)
            if isinstance(model, ServedDecoder):
                assert lane is not None
                assert lane.is_empty
                assert all(place.slots_left == model.limits.slots for place in lane.places.values())


@asynccontextmanager
async def generating_world(
    repository: Path,
    kept: Path | None = None,
    backends: Sequence[Backend] = (),
    room: Room | None = None,
    engine: Engine | None = None,
) -> AsyncIterator[GeneratingWorld]:
    """`kept`: where what is measured is kept. `backends`: for models of other kinds."""
    world = GeneratingWorld(repository, kept, backends, room, engine)
    await world.registry.load_all()
    try:
        yield world
    finally:
        await world.registry.close()


def prompt(length: int, seed: int, tiny: TinyDecoder | None = None) -> list[int]:
    vocabulary = (tiny or TinyDecoder()).vocabulary
    return [int(one) for one in np.random.default_rng(seed).integers(1, vocabulary, length)]
