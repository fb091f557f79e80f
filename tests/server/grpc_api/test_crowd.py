"""Calls that come a turn apart go on together; nobody waits for long, alone, or for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from server.grpc_api.crowd import MOST_TURNS, Crowd


class World:
    """Calls that note the turn in which they went on."""

    def __init__(self) -> None:
        self.crowd = Crowd()
        self.turn = 0
        self.went_on: list[int] = []

    async def call(self) -> None:
        self.crowd.enter()
        try:
            await self.crowd.together()
            self.went_on.append(self.turn)
            await asyncio.sleep(0.01)
        finally:
            self.crowd.leave()

    async def arriving(self, n: int, every: int = 1) -> list[asyncio.Task[None]]:
        """`n` calls, one in every so many turns of the loop."""
        tasks = []
        for at in range(n * every):
            if at % every == 0:
                tasks.append(asyncio.ensure_future(self.call()))
            self.turn += 1
            await asyncio.sleep(0)
        return tasks


def play(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(story, 10))


def test_a_lone_call_does_not_wait() -> None:
    async def story() -> None:
        world = World()
        await asyncio.gather(*await world.arriving(1))
        await asyncio.gather(*await world.arriving(1))
        assert world.went_on == [1, 2]

    play(story())


def test_calls_in_neighbouring_turns_go_on_together() -> None:
    async def story() -> None:
        world = World()
        await asyncio.gather(*await world.arriving(8))
        first, *others = world.went_on
        assert first == 1
        assert len(others) == 7
        assert len(set(others)) == 1

    play(story())


def test_a_turn_without_a_further_call_ends_the_wait() -> None:
    async def story() -> None:
        world = World()
        await asyncio.gather(*await world.arriving(4, every=6))
        assert len(set(world.went_on)) == 4

    play(story())


def test_the_wait_is_bounded_however_many_come() -> None:
    async def story() -> None:
        world = World()
        await asyncio.gather(*await world.arriving(4 * MOST_TURNS))
        assert len(world.went_on) == 4 * MOST_TURNS
        _, *others = sorted(world.went_on)
        assert others[0] <= MOST_TURNS + 4
        assert len(set(others)) >= 4

    play(story())


def test_a_cancelled_call_is_nobody_elses_affair() -> None:
    async def story() -> None:
        world = World()
        tasks = await world.arriving(4)
        tasks[2].cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(end).__name__ for end in ends] == ["NoneType", "NoneType", "CancelledError", "NoneType"]
        assert len(world.went_on) == 3
        await asyncio.gather(*await world.arriving(1))  # the count is right again: this one is alone
        assert world.went_on[-1] == world.turn

    play(story())
