"""Where batches run: brief ones on the event loop in the place of a free instance, all others on threads."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

from server.core.types import Batch, Close, InferRequest, ModelKey
from server.runtime.assemble import Part
from server.runtime.instance import MOST_OF_LOOP, NOT_BRIEF_S, Instances, Runner, StepResult, WorkBatch
from server.runtime.work import Work

KEY = ModelKey("m", 1)
BRIEF_ROWS = 4
LIMIT_S = 20.0


class World:
    """Instances of a model whose batches of up to BRIEF_ROWS rows are brief. `ran_on`: by batch, the name of the thread."""

    def __init__(self, instances: int) -> None:
        self.now = 100.0
        self.takes_s = 0.0
        self.ran_on: dict[int, str] = {}
        self.results: list[StepResult] = []
        self.lost: list[tuple[int, str]] = []
        self.go_on = threading.Event()
        self.go_on.set()
        self._deadly: set[int] = set()
        runner = Runner(self, self, lambda: self.now)  # type: ignore[arg-type]  # as much of a session and an assembler as it needs
        self.instances = Instances("m", runner, asyncio.get_running_loop(), self.results.append, self._lose, self._is_brief)
        for _ in range(instances):
            self.instances.add()

    def start(self, number: int, rows: int = 1, deadly: bool = False) -> None:
        work = Work({"x": np.full((rows, 1), number)}, None, 1.0)  # type: ignore[arg-type]  # nobody waits for an answer
        request = InferRequest(number, KEY, rows, 0, self.now, self.now + 1.0, work)
        if deadly:
            self._deadly.add(number)
        self.instances.start(Batch(number, KEY, (request,), rows, 0, self.now, Close.IDLE))

    async def reaches(self, n_results: int) -> None:
        """Returns when so many batches were reported or lost."""
        ends_at = time.monotonic() + LIMIT_S
        while len(self.results) + len(self.lost) < n_results:
            assert time.monotonic() < ends_at, f"only {self.results}, {self.lost}"
            await asyncio.sleep(0.001)

    def join(self, parts: list[Part]) -> dict[str, Any]:
        """Satisfies Assembler."""
        return dict(parts[0].inputs)

    def run(self, inputs: dict[str, Any]) -> list[Any]:
        """Satisfies Session."""
        number = int(inputs["x"][0, 0])
        self.ran_on[number] = threading.current_thread().name
        assert self.go_on.wait(LIMIT_S)
        if number in self._deadly:
            raise RuntimeError("no more")
        self.now += self.takes_s
        return [inputs["x"]]

    def split(self, outputs: list[Any], parts: list[Part]) -> list[Any]:
        """Satisfies Assembler."""
        return [outputs]

    def _is_brief(self, batch: WorkBatch) -> bool:
        return batch.rows <= BRIEF_ROWS

    def _lose(self, batch: WorkBatch, detail: str) -> None:
        self.lost.append((batch.id, detail))
        self.instances.add()


HERE = threading.main_thread().name


def played(instances: int, scene: Callable[[World], Awaitable[None]]) -> World:
    async def play() -> World:
        world = World(instances)
        await scene(world)
        world.instances.stop()
        await asyncio.to_thread(world.instances.join)
        return world

    return asyncio.run(play())


def test_brief_batches_run_on_the_event_loop_after_its_turn_and_others_on_threads() -> None:
    async def scene(world: World) -> None:
        world.start(1)
        assert not world.ran_on, "the turn is not over yet"
        await world.reaches(1)
        world.start(2, rows=BRIEF_ROWS + 1)
        await world.reaches(2)
        world.start(3)
        world.instances.hurry()
        assert len(world.results) == 3
        await asyncio.sleep(0)

    world = played(1, scene)
    assert world.ran_on == {1: HERE, 2: "m#0", 3: HERE}
    assert [result.error for result in world.results] == [None] * 3


def test_what_is_held_runs_when_it_is_in_a_hurry_and_not_before() -> None:
    async def scene(world: World) -> None:
        world.instances.hold()
        world.start(1)
        for _ in range(3):
            await asyncio.sleep(0)
        assert not world.ran_on
        world.instances.hurry()
        assert [result.batch.id for result in world.results] == [1]
        world.start(2)
        await world.reaches(2)

    assert played(1, scene).ran_on == {1: HERE, 2: HERE}


@pytest.mark.parametrize(("instances", "where"), [(1, "m#0"), (2, HERE)])
def test_a_brief_batch_takes_the_place_of_a_free_instance_only(instances: int, where: str) -> None:
    async def scene(world: World) -> None:
        world.go_on.clear()
        world.start(1, rows=BRIEF_ROWS + 1)
        world.start(2)
        world.go_on.set()
        await world.reaches(2)

    world = played(instances, scene)
    assert world.ran_on[2] == where


def test_one_that_kept_the_loop_too_long_sends_the_next_ones_to_threads_for_a_while() -> None:
    async def scene(world: World) -> None:
        world.takes_s = 2 * NOT_BRIEF_S
        world.start(1)
        await world.reaches(1)
        world.takes_s = 0.0
        again_at = world.now + 2 * NOT_BRIEF_S / MOST_OF_LOOP
        for number, now in ((2, world.now), (3, again_at - 0.01), (4, again_at + 0.01)):
            world.now = now
            world.start(number)
            await world.reaches(number)

    assert played(1, scene).ran_on == {1: HERE, 2: "m#0", 3: "m#0", 4: HERE}


def test_an_instance_that_dies_on_the_loop_is_gone_like_one_that_dies_on_its_thread() -> None:
    async def scene(world: World) -> None:
        world.start(1, deadly=True)
        await world.reaches(1)
        world.start(2, rows=BRIEF_ROWS + 1, deadly=True)
        await world.reaches(2)
        for number, rows in ((3, 1), (4, BRIEF_ROWS + 1)):
            world.start(number, rows)
            await world.reaches(number)

    world = played(1, scene)
    assert world.lost == [(1, "RuntimeError: no more"), (2, "RuntimeError: no more")]
    assert [world.ran_on[number] == HERE for number in (1, 2, 3, 4)] == [True, False, True, False]
    assert [result.batch.id for result in world.results] == [3, 4]
