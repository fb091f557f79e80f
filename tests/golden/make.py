"""Makes the golden recordings anew: python -m tests.golden.make. Do so when the policy changes on purpose, and look at what changed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from server.core.events import Action, Event
from server.core.scheduler import Scheduler
from server.core.types import Mixing, ModelKey
from server.recording.file import Header, pieces
from server.recording.ring import Ring
from server.recording.state import save
from server.simulation.clients import MODEL, Request, ask, either, log_normal, merged, poisson_times
from server.simulation.laws import linear_costs, steady
from server.simulation.station import Served, serve
from tests.sim.resident_world import MixedWorld
from tests.sim.world import World

FOLDER = Path(__file__).parent
HEADER = Header("golden", "a world in virtual time", 0.0, 0, 0.0)

LIGHT, HEAVY = linear_costs(0.0005, 0.004, 16), linear_costs(0.004, 0.01, 8)
TEXT = linear_costs(0.00002, 0.001, 16, lengths=(1, 64, 256))
RATE = 16 / LIGHT.batch_s(16, 0)
"""The highest possible of the light model."""


def recordings() -> Iterator[tuple[str, bytes]]:
    """Every golden recording by the name of its file."""
    yield "steady", _played(_requests(0.8 * RATE, 120, 0.05), Served(LIGHT, ahead=1, truth=steady(0.02, random.Random(1))))
    yield "overload", _played(_requests(2.0 * RATE, 160, 0.03), Served(LIGHT, ahead=1, truth=steady(0.02, random.Random(1))))
    wrong = Served(linear_costs(0.0005, 0.004, 16, factor=0.5), real=LIGHT, ahead=1)
    yield "wrong-profile", _played(_requests(0.9 * RATE, 120, 0.05), wrong)
    texts = ask(poisson_times(900.0, 120, random.Random(2)), random.Random(2), 0.1, length=log_normal(60, 0.9, 256))
    yield "padded-lengths", _played(texts, Served(TEXT, mixing=Mixing.PADDED, ahead=1))
    yield "equal-lengths", _played(texts[:60], Served(TEXT, mixing=Mixing.EQUAL))
    classes = ask(poisson_times(1.5 * RATE, 100, random.Random(3)), random.Random(3), either(0.02, 0.2), priority=0)
    low = ask(poisson_times(0.5 * RATE, 40, random.Random(4)), random.Random(4), 0.2, priority=1)
    yield "priorities", _played(merged(classes, low), Served(LIGHT, ahead=1))
    yield "two-instances", _played(_requests(1.2 * RATE, 120, 1.5 * LIGHT.batch_s(16, 0)), Served(LIGHT, instances=2))
    yield "shared-device", _played(*_neighbours())
    for seed in ACCIDENTS:
        yield f"accidents-{seed}", _lived(RecordedWorld(seed))
    for seed in LEARNING:
        yield f"learning-{seed}", _lived(RecordedWorld(seed))
    for seed in RESIDENTS:
        yield f"residents-{seed}", _lived(RecordedMixedWorld(seed))


ACCIDENTS = (38, 45)
"""Seeds of small worlds that have cancelled requests, failed batches, lost instances and drained models between them."""

LEARNING = (52,)
"""The same of worlds in which a model's costs are not known at first, learnt from its batches, and measured later."""

RESIDENTS = (37, 65)
"""The same of worlds with generating models."""


def _requests(rate: float, count: int, slo_s: float) -> list[Request]:
    return ask(poisson_times(rate, count, random.Random(0)), random.Random(0), slo_s)


def _neighbours() -> tuple[Any, ...]:
    heavy = ModelKey("heavy", 1)
    light = ask(poisson_times(0.4 * RATE, 90, random.Random(5)), random.Random(5), 0.05)
    others = ask(poisson_times(80.0, 12, random.Random(6)), random.Random(6), 0.4, model=heavy)
    models = Served(LIGHT, MODEL, ahead=1, device="cpu"), Served(HEAVY, heavy, ahead=1, device="cpu")
    return merged(light, others), *models


def _played(requests: list[Request], *models: Served) -> bytes:
    rings: list[Ring] = []

    def see(scheduler: Scheduler[int], event: Event[int], actions: list[Action[int]], now: float) -> None:
        if not rings:
            rings.append(Ring(scheduler, state=save(Scheduler())))
        rings[0].note(event, actions, now)

    serve(requests, *models, see=see)
    return b"".join(pieces(HEADER, rings[0].chunks()))


def _lived(world: RecordedWorld) -> bytes:
    world.run()
    return b"".join(pieces(HEADER, world.ring.chunks()))


class RecordedWorld(World):
    """A random world with a flight recorder, which forgets nothing."""

    def __init__(self, seed: int, chunk_bytes: int = 1 << 30) -> None:
        super().__init__(seed)
        self.ring = Ring(self.scheduler, chunk_bytes, 1 << 30)
        see = self.onlooker.see

        def note(event: Event[str], actions: list[Action[str]], now: float) -> None:
            self.ring.note(event, actions, now)
            see(event, actions, now)

        self.onlooker.see = note  # type: ignore[method-assign]


class RecordedMixedWorld(RecordedWorld, MixedWorld):
    """One with generating models."""


def main() -> None:
    for old in FOLDER.glob("*.jsonl"):
        old.unlink()
    for name, data in recordings():
        (FOLDER / f"{name}.jsonl").write_bytes(data)


if __name__ == "__main__":
    main()
