"""Loading, unloading and replacing versions; a bad one never takes a good one along."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from server.core.lifecycle import State
from server.errors import BadRequest, NotFound, NotReady, NotYet
from tests.server.runtime.scripted_world import publish_fake, values, world


def test_a_model_that_cannot_be_loaded_is_reported_and_does_not_stop_the_others(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_fake(tmp_path, "bad")
        publish_fake(tmp_path)
        (tmp_path / "bad" / "1" / "manifest.json").write_text("{")
        async with world(tmp_path) as w:
            assert [model.key.name for model in w.registry.serving] == ["fake"]
            assert not w.registry.ready
            with pytest.raises(NotReady, match="not valid JSON"):
                w.registry.find("bad")
            assert w.registry.status("bad")[1].state is State.UNAVAILABLE

    asyncio.run(scenario())


@pytest.mark.parametrize("how", ["directory", "deep", "digits"])
def test_files_that_break_the_reader_itself_are_a_reason_like_any_other(tmp_path: Path, how: str) -> None:
    async def scenario() -> None:
        publish_fake(tmp_path, "bad")
        manifest = tmp_path / "bad" / "1" / "manifest.json"
        if how == "directory":
            manifest.unlink()
            manifest.mkdir()
        else:
            manifest.write_text("[" * 100_000 if how == "deep" else '{"schema": ' + "9" * 5000 + "}")
        async with world(tmp_path) as w:
            assert w.registry.problem("bad")
            for _ in range(2):  # the state machine must not be stuck after the first
                with pytest.raises(BadRequest, match="bad/1"):
                    await w.registry.load("bad")

    asyncio.run(scenario())


def test_a_reload_that_fails_leaves_the_version_that_serves(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_fake(tmp_path)
        async with world(tmp_path) as w:
            w.script.load_error = "no memory left"
            with pytest.raises(BadRequest, match="fake/1: no memory left"):
                await w.registry.load("fake")
            publish_fake(tmp_path)
            with pytest.raises(BadRequest, match="fake/2: no memory left"):
                await w.registry.load("fake")
            assert w.registry.ready
            assert w.registry.find("fake").key.version == 1
            assert w.registry.status("fake")[2].reason == "fake/2: no memory left"
            assert values((await w.answers([w.ask(1.0)]))[0]) == [2.0]

    asyncio.run(scenario())


def test_a_new_version_retires_the_old_one_and_both_states_are_told(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_fake(tmp_path)
        async with world(tmp_path) as w:
            publish_fake(tmp_path)
            await w.registry.load("fake")
            states = {number: (s.state, s.reason) for number, s in w.registry.status("fake").items()}
            assert states == {1: (State.UNAVAILABLE, "replaced by version 2"), 2: (State.READY, "")}
            with pytest.raises(NotReady, match="replaced by version 2"):
                w.registry.find("fake", "1")
            assert w.script.n_open == 1

    asyncio.run(scenario())


@pytest.mark.parametrize("version", [None, "1"])
def test_who_asks_for_a_model_that_is_being_loaded_is_told_when_to_try_again(tmp_path: Path, version: str | None) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as w:
            publish_fake(tmp_path)
            w.script.block()
            loading = asyncio.create_task(w.registry.load("fake"))
            await w.reaches(lambda: len(w.script.batches) == 1)  # it warms up
            with pytest.raises(NotYet, match="not ready") as too_early:
                w.registry.find("fake", version)
            assert too_early.value.retry_after_s == 1.0
            w.script.release()
            await loading
            await w.registry.unload("fake")
            with pytest.raises(NotReady) as too_late:
                w.registry.find("fake", version)
            assert too_late.value.retry_after_s is None

    asyncio.run(scenario())


@pytest.mark.parametrize("version", ["9", "abc", "01", "-1", "٢", "9" * 5000, ""])
def test_a_version_that_is_not_one_is_not_found(tmp_path: Path, version: str) -> None:
    async def scenario() -> None:
        publish_fake(tmp_path)
        async with world(tmp_path) as w:
            with pytest.raises(NotFound, match="it has 1"):
                w.registry.find("fake", version)

    asyncio.run(scenario())


@pytest.mark.parametrize("name", ["nosuch", "..", "../x", "a/b", "", ".staging", "x" * 200])
def test_unknown_and_impossible_names_are_not_found(tmp_path: Path, name: str) -> None:
    async def scenario() -> None:
        publish_fake(tmp_path)
        async with world(tmp_path) as w:
            with pytest.raises(NotFound):
                w.registry.find(name)
            with pytest.raises(NotFound):
                await w.registry.load(name)
            with pytest.raises(NotFound):
                await w.registry.unload(name)

    asyncio.run(scenario())


def test_loads_and_unloads_that_overlap_take_turns(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_fake(tmp_path)
        async with world(tmp_path) as w:
            verbs = [w.registry.load, w.registry.unload, w.registry.load, w.registry.load, w.registry.unload, w.registry.load]
            await asyncio.wait_for(asyncio.gather(*(verb("fake") for verb in verbs)), 20)
            assert w.script.n_open == 1
            assert values((await w.answers([w.ask(1.0)]))[0]) == [2.0]

    asyncio.run(scenario())


def test_a_version_without_warm_up_success_does_not_serve(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_fake(tmp_path)
        async with world(tmp_path) as w:
            w.script.poison = lambda _: "always"
            with pytest.raises(BadRequest, match="warm-up"):
                await w.registry.load("fake")
            w.script.poison = lambda _: None
            assert values((await w.answers([w.ask(1.0)]))[0]) == [2.0]

    asyncio.run(scenario())


def test_a_load_is_carried_through_when_who_asked_for_it_goes_away(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_fake(tmp_path)
        async with world(tmp_path) as w:
            publish_fake(tmp_path)
            w.script.block()
            before = len(w.script.batches)
            asking = asyncio.create_task(w.registry.load("fake"))
            await w.reaches(lambda: len(w.script.batches) > before)  # it warms up
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            w.script.release()
            await w.reaches(lambda: w.registry.find("fake").key.version == 2)
            assert w.registry.status("fake")[2].state is State.READY
            await w.reaches(lambda: w.script.n_open == 1)
            assert (await w.registry.load("fake")).key.version == 2

    asyncio.run(scenario())


def test_an_unload_too_and_the_model_can_be_loaded_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_fake(tmp_path)
        async with world(tmp_path) as w:
            first = await w.blocked(3.0)
            asking = asyncio.create_task(w.registry.unload("fake"))
            await w.reaches(lambda: w.registry.status("fake")[1].state is State.UNLOADING)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            w.script.release()
            assert values((await w.answers([first]))[0]) == [6.0]
            await w.reaches(lambda: w.registry.status("fake")[1].state is State.UNAVAILABLE)
            assert w.script.n_open == 0
            assert (await w.registry.load("fake")).key.version == 1

    asyncio.run(scenario())


def test_a_server_that_stops_waits_for_what_is_being_loaded(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_fake(tmp_path)
        async with world(tmp_path) as w:
            publish_fake(tmp_path)
            w.script.block()
            before = len(w.script.batches)
            asking = asyncio.create_task(w.registry.load("fake"))
            await w.reaches(lambda: len(w.script.batches) > before)
            closing = asyncio.create_task(w.registry.close())
            w.script.release()
            await closing
            await asking
            assert w.script.n_open == 0

    asyncio.run(scenario())
