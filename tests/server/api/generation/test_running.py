"""A call that runs: its reader is woken once for each step, and what nobody wants is stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import cast

import pytest

pytest.importorskip("tokenizers")

from server.api.generation.running import Job, Running
from server.errors import Cancelled, Refused
from server.generation.options import Prompt, Sampling
from server.generation.serving import GeneratingEngine, GeneratingModel
from tests.fake_generation import FakeEngine, fake_model, spoken


def run(scenario: Callable[[FakeEngine, Running], Awaitable[None]], streams: bool = True) -> None:
    """Three answers of six tokens and an end each. The engine steps when the scenario says so."""

    async def world() -> None:
        engine = FakeEngine(spoken("abcdef"), step_s=3600)
        job = Job([Prompt([1, 2], 50)], Sampling(seed=1), (), 3)
        running = Running(cast(GeneratingEngine, engine), cast(GeneratingModel, fake_model()), job, streams)
        await asyncio.wait_for(scenario(engine, running), 30)

    asyncio.run(world())


async def woken(engine: FakeEngine, running: Running) -> list[int]:
    """How often a reader was woken until each step was over."""
    n_woken = 0

    async def read() -> None:
        nonlocal n_woken
        while not running.is_over:
            await running.more()
            n_woken += 1

    reading, counts = asyncio.ensure_future(read()), []
    await asyncio.sleep(0)
    for _ in range(7):
        engine.step()
        for _ in range(5):
            await asyncio.sleep(0)
        counts.append(n_woken)
    await reading
    return counts


def test_one_step_wakes_its_reader_once_however_many_answers_grow() -> None:
    async def read(engine: FakeEngine, running: Running) -> None:
        assert await woken(engine, running) == [1, 2, 3, 4, 5, 6, 7]

    run(read)


def test_who_wants_the_whole_is_woken_for_beginning_and_end_only() -> None:
    async def read(engine: FakeEngine, running: Running) -> None:
        assert await woken(engine, running) == [1, 1, 1, 1, 1, 1, 2]
        assert [answer.take().text for answer in running.answers] == ["abcdef"] * 3

    run(read, streams=False)


def test_a_reader_that_comes_late_holds_nobody_up() -> None:
    async def read(engine: FakeEngine, running: Running) -> None:
        for _ in range(7):
            engine.step()
        await running.more()
        assert [answer.take().text for answer in running.answers] == ["abcdef"] * 3

    run(read)


def test_who_is_abandoned_is_stopped_and_told() -> None:
    async def leave(engine: FakeEngine, running: Running) -> None:
        engine.step()
        await running.begun()
        running.abandon()
        running.stop()
        with pytest.raises(Cancelled):
            await running.finished()
        assert engine.n_stopped == 3

    run(leave)


def test_what_the_engine_refuses_at_once_stops_the_others() -> None:
    async def ask() -> None:
        class Full(FakeEngine):
            def generate(self, *args: object, **more: object) -> object:  # type: ignore[override]  # refuses the third
                if len(self.asked) == 2:
                    raise Refused("full", "queue_full", 1.0)
                return super().generate(*args, **more)  # type: ignore[arg-type]

        engine = Full(spoken())
        job = Job([Prompt([1], 5)], Sampling(), (), 3)
        with pytest.raises(Refused):
            Running(cast(GeneratingEngine, engine), cast(GeneratingModel, fake_model()), job, True)
        assert engine.n_stopped == 2

    asyncio.run(ask())
