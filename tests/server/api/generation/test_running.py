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


def run(
    scenario: Callable[[FakeEngine, Running], Awaitable[None]], streams: bool = True, n: int = 3, text: str = "abcdef"
) -> None:
    async def world() -> None:
        engine = FakeEngine(spoken(text))
        job = Job([Prompt([1, 2], 50)], Sampling(seed=1), (), n)
        running = Running(cast(GeneratingEngine, engine), cast(GeneratingModel, fake_model()), job, streams)
        await asyncio.wait_for(scenario(engine, running), 30)

    asyncio.run(world())


def test_one_step_wakes_its_reader_once_however_many_answers_grow() -> None:
    async def read(_: FakeEngine, running: Running) -> None:
        n_woken = 0
        while not running.is_over:
            await running.more()
            n_woken += 1
            assert {len(answer.take().text) for answer in running.answers} <= {0, 1}
        assert n_woken == 7

    run(read)


def test_who_wants_the_whole_is_woken_for_beginning_and_end_only() -> None:
    async def read(_: FakeEngine, running: Running) -> None:
        n_woken = 0
        while not running.is_over:
            await running.more()
            n_woken += 1
        assert n_woken == 2
        assert [answer.take().text for answer in running.answers] == ["abcdef"] * 3

    run(read, streams=False)


def test_a_reader_that_comes_late_holds_nobody_up() -> None:
    async def read(engine: FakeEngine, running: Running) -> None:
        while not all(one.is_over for one in engine.asked):
            await asyncio.sleep(0.001)
        await running.more()
        assert [answer.take().text for answer in running.answers] == ["abcdef"] * 3

    run(read)


def test_who_is_abandoned_is_stopped_and_told() -> None:
    async def leave(engine: FakeEngine, running: Running) -> None:
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
