"""A bug in the scheduler, or where its decisions are carried out: whoever was accepted is told once, whoever still comes is told at once,
and the process is told that it had better end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")

from server.core.events import Event, IterationDone, StepDone, Submit
from server.core.scheduler import Scheduler
from server.errors import EngineLost, FerryError
from tests.decoders import publish_decoder
from tests.server.runtime.generating_world import generating_world, prompt
from tests.server.runtime.scripted_world import World, publish_fake, values, world

Handle = Callable[[Event[Any], float], Any]


class Poison:
    """Makes a scheduler break on one kind of event: after it has changed its books, and before anybody hears of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, kind: type) -> None:
        self.is_on = False
        self._kind = kind
        handle = Scheduler.handle

        def poisoned(scheduler: Scheduler[Any], event: Event[Any], now: float) -> Any:
            actions = handle(scheduler, event, now)
            if self.is_on and isinstance(event, self._kind):
                raise RuntimeError("poisoned")
            return actions

        monkeypatch.setattr(Scheduler, "handle", poisoned)


class Deaf:
    """Satisfies Outcome, but for a bug."""

    def done(self) -> bool:
        return False

    def set_result(self, _: object, /) -> None:
        raise RuntimeError("deaf")

    def set_exception(self, error: FerryError, /) -> None:
        raise AssertionError(error)


def watched(w: World) -> list[str]:
    """How often the process is told to end."""
    told: list[str] = []
    w.engine._broken = lambda: told.append("broken")
    return told


@pytest.mark.parametrize("kind", [Submit, StepDone])
def test_all_that_were_accepted_are_told_to_try_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kind: type
) -> None:
    poison = Poison(monkeypatch, kind)

    async def scenario() -> None:
        publish_fake(tmp_path)
        async with world(tmp_path) as w:
            told = watched(w)
            assert values((await w.answers([w.ask(1.0)]))[0]) == [2.0]
            first = await w.blocked()
            others = [w.ask(float(n)) for n in range(20)]
            await w.queued(20)
            poison.is_on = True
            if kind is Submit:
                others.append(w.ask(7.0))
                await w.reaches(lambda: bool(told))
            w.script.release()
            for reply in await w.answers([first, *others]):
                assert reply is not None
                assert (reply.status, reply.headers["retry-after"]) == (503, "1")
                assert "a bug in ferry" in reply.error
                assert "try again" in reply.error
            (late,) = await w.answers([w.ask(9.0)])
            assert late is not None
            assert late.status == 503
            assert told == ["broken"]
            assert w.sample("ferry_in_flight") == 0
            assert w.sample("ferry_failed_total", reason="engine_lost") == len(others) + 2
            poison.is_on = False  # what was recorded is played again

    asyncio.run(scenario())
    assert [record.exc_info[1].args for record in caplog.records if record.exc_info and record.exc_info[1]] == [("poisoned",)]


def test_a_bug_in_carrying_out_a_decision_leaves_nobody_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        publish_fake(tmp_path)
        async with world(tmp_path) as w:
            told = watched(w)
            first = await w.blocked()
            others = [w.ask(float(n)) for n in range(4)]
            await w.queued(4)
            stats = w.registry.find("fake").stats
            monkeypatch.setattr(type(stats), "answered", lambda *_: 1 / 0)  # after they were told
            w.script.release()
            replies = await w.answers([first, *others])
            assert [reply.status for reply in replies if reply] == [200] + 4 * [503]
            assert told == ["broken"]

    asyncio.run(scenario())


def test_who_cannot_be_told_does_not_keep_others_from_their_answers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        publish_fake(tmp_path)
        async with world(tmp_path) as w:
            told = watched(w)
            first = await w.blocked()
            w.engine.submit(w.registry.find("fake"), {"x": np.ones((1, 1), np.float32)}, 1, 0, Deaf())
            other = w.ask(2.0)
            await w.queued(2)
            w.script.release()
            assert [values(reply) for reply in await w.answers([first, other])] == [[0.0], [4.0]]
            assert len(w.script.batches[-1]["x"]) == 2
            assert told == []

    asyncio.run(scenario())
    assert "could not be told" in caplog.text


def test_generating_requests_too_and_a_model_that_drains_does_not_wait_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison = Poison(monkeypatch, IterationDone)

    async def scenario() -> None:
        publish_decoder(tmp_path)
        async with generating_world(tmp_path) as w:
            done = w.ask(prompt(20, 1), 4)
            await w.over(done)
            clients = [w.ask(prompt(20, n), 200) for n in range(8)]
            await w.reaches(lambda: len(clients[0].tokens) > 3)
            poison.is_on = True
            closing = asyncio.create_task(w.registry.unload("tiny"))
            await w.over(*clients)
            await asyncio.wait_for(closing, 10)
            assert all(isinstance(client.error, EngineLost) for client in clients)
            assert done.error is None
            w.check()

    asyncio.run(scenario())
