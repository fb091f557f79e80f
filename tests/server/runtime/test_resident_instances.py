"""The thread of an instance: orders in, reports out, and what it does between the two by itself. The stepper is a scripted one."""

from __future__ import annotations

import asyncio
import itertools
import queue
from collections.abc import Awaitable, Callable

import pytest

from server.backends.base import BatchError
from server.core.events import Iterate, Release
from server.core.types import Iteration
from server.generation.asked import Asked, Asking
from server.generation.stepper import Stepped, Stepper
from server.runtime.resident_instances import ResidentInstances, StepReport
from tests.server.core.build import KEY

LIMIT_S = 20.0


class Scripted(Stepper):
    """Tells what it was called for. A second passes whenever anybody looks at the clock, ten more while it goes on."""

    def __init__(self) -> None:
        self.told: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.fails = self.is_ahead = False
        self.seconds = itertools.count()

    def now(self) -> float:
        return float(next(self.seconds))

    def step(self, iteration: Iteration[Asked]) -> Stepped:
        self.told.put(f"step {iteration.id}")
        if self.fails:
            raise BatchError("planted")
        went_on, self.is_ahead = self.is_ahead, False
        return Stepped([], went_on=went_on)

    def go_on(self) -> None:
        for _ in range(10):
            self.now()
        self.is_ahead = True
        self.told.put("go on")

    def release(self, requests: list[Asking]) -> None:  # type: ignore[override]
        self.told.put("release")


class Scene:
    def __init__(self) -> None:
        self.stepper = Scripted()
        self.reports: asyncio.Queue[StepReport] = asyncio.Queue()
        self.lost: list[str] = []
        self.instances = ResidentInstances(
            "m", lambda _: self.stepper, asyncio.get_running_loop(), self.stepper.now, self.reports.put_nowait,
            lambda _, why: self.lost.append(why),
        )  # fmt: skip
        self.instances.add(0)

    def order(self, number: int, may_go_on: bool) -> None:
        self.instances.start(Iterate(Iteration(number, KEY, 0, (), (), 0, 0.0), may_go_on))

    def release(self) -> None:
        self.instances.release(Release(KEY, 0, ()))

    async def report(self) -> StepReport:
        async with asyncio.timeout(LIMIT_S):
            return await self.reports.get()

    def next_call(self) -> str:
        """What the thread did next. It blocks the event loop, which so has no part in it."""
        return self.stepper.told.get(timeout=LIMIT_S)


def played(play: Callable[[Scene], Awaitable[None]]) -> None:
    async def scenario() -> None:
        scene = Scene()
        try:
            await play(scene)
        finally:
            scene.instances.stop()
            await asyncio.to_thread(scene.instances.join)
        assert not scene.lost

    asyncio.run(scenario())


def test_it_goes_on_before_the_event_loop_has_heard_of_the_step() -> None:
    async def play(scene: Scene) -> None:
        scene.order(1, may_go_on=True)
        assert [scene.next_call(), scene.next_call()] == ["step 1", "go on"]
        assert scene.reports.empty()

    played(play)


def test_it_goes_on_once() -> None:
    async def play(scene: Scene) -> None:
        scene.order(1, may_go_on=True)
        assert [scene.next_call(), scene.next_call()] == ["step 1", "go on"]
        scene.release()
        scene.order(2, may_go_on=False)
        assert [scene.next_call(), scene.next_call()] == ["release", "step 2"]

    played(play)


@pytest.mark.parametrize("fails", [False, True])
def test_it_does_not_go_on_unasked_or_after_a_failure(fails: bool) -> None:
    async def play(scene: Scene) -> None:
        scene.stepper.fails = fails
        scene.order(1, may_go_on=fails)
        assert (await scene.report()).error == ("planted" if fails else None)
        scene.release()
        assert [scene.next_call(), scene.next_call()] == ["step 1", "release"]

    played(play)


def test_a_step_began_as_much_earlier_as_it_was_ahead() -> None:
    async def play(scene: Scene) -> None:
        scene.order(1, may_go_on=True)
        first = await scene.report()
        assert first.ended_at - first.began_at == 1.0
        assert [scene.next_call(), scene.next_call()] == ["step 1", "go on"]
        scene.order(2, may_go_on=False)
        second = await scene.report()
        assert second.ended_at - second.began_at == 12.0, "the eleven seconds before, and its own"

    played(play)
