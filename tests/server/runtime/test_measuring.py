"""Versions without a profile of this machine: they serve at once, and are measured while they do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from server.backends.scripted import Script, ScriptedBackend
from server.contract.device import this_device
from server.contract.layout import versions
from server.contract.manifest import Ragged
from server.contract.profile import Cell, Placement, Profile
from server.contract.text import TextCost
from server.core.learning import Learning
from server.runtime.measuring import MOST, N_TIMES
from server.runtime.profile_cache import ProfileCache
from server.runtime.terms import Source
from tests.server.runtime.scripted_world import MODEL, World, doubled, publish_fake, values, world
from tests.server.runtime.text_world import LONGEST, HeldTokenizer, body_of, publish_text, right, summed

HERE = this_device(ScriptedBackend.runtime)


def law(batch_s: float = 1e-3, row_s: float = 0.0, lengths: tuple[int, ...] = (0,), max_rows: int = 8) -> Profile:
    """What batches take on this machine, whatever the version's profile says."""
    cells = [(rows, n, batch_s + rows * max(1, n) * row_s) for n in lengths for rows in (1, max_rows)]
    return Profile(HERE, Placement(1, 1), tuple(Cell(rows, n, took, took, took, 1, 0) for rows, n, took in cells))


def foreign(repository: Path, **changes: Any) -> None:
    """The version's profile is from a machine with another processor."""
    path = repository / MODEL / "1" / "profile.json"
    profile = json.loads(path.read_text())
    profile["device"] |= {"processor": "another one", **changes}
    path.write_text(json.dumps(profile))


def missing(repository: Path) -> None:
    (repository / MODEL / "1" / "profile.json").unlink()


def source(w: World) -> Source:
    return w.registry.find(MODEL).terms.source


async def measured(w: World) -> None:
    await w.reaches(lambda: source(w) is not Source.LEARNING)


@pytest.mark.parametrize("damage", [foreign, missing])
def test_it_serves_at_once_and_by_its_own_measurements_later(damage: Callable[[Path], None], tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_fake(tmp_path)
        damage(tmp_path)
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        async with world(tmp_path, Script(doubled, law=law(2e-3))) as w:
            assert w.registry.ready
            model = w.registry.find(MODEL)
            assert source(w) is Source.LEARNING
            assert model.terms.profile is None
            assert w.sample("ferry_profile_source", source="learning") == 1
            lane = w.engine.lane(model.key)
            assert lane is not None
            assert isinstance(lane.forecast, Learning)
            assert values((await w.answers([w.ask(1.0)]))[0]) == [2.0]
            await measured(w)
            assert w.registry.find(MODEL) is model, "the model goes on with the same session"
            assert (source(w), isinstance(lane.forecast, Learning)) == (Source.MEASURED, False)
            profile = model.terms.profile
            assert profile is not None
            assert (profile.measured_rows, profile.device) == ((1, 2, 4, 8), HERE)
            assert all(cell.samples == N_TIMES and cell.p50_s >= 2e-3 for cell in profile.cells)
            assert lane.costs.batch_s(8, 0) > 2e-3
            assert model.fastest_s > 2e-3
            assert w.sample("ferry_profile_source", source="measured") == 1
            assert w.sample("ferry_profile_source", source="learning") == 0
            assert values((await w.answers([w.ask(1.0)]))[0]) == [2.0]
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before, (
            "the version is as published"
        )

    asyncio.run(scenario())


def test_batches_that_are_tried_out_count_in_no_statistics(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_fake(tmp_path)
        missing(tmp_path)
        async with world(tmp_path, Script(doubled, law=law())) as w:
            await measured(w)
            assert len(w.script.batches) > 4 * N_TIMES
            assert (
                w.sample("ferry_request_seconds_count")
                == w.sample("ferry_batch_rows_count")
                == w.sample("ferry_in_flight")
                == 0
            )
            assert w.registry.find(MODEL).stats.to_json()["execution_count"] == 0
            await w.answers([w.ask(1.0)])
            assert w.sample("ferry_request_seconds_count") == w.sample("ferry_batch_rows_count") == 1

    asyncio.run(scenario())


def test_requests_go_first(tmp_path: Path) -> None:
    """While some run or wait nothing is tried out."""

    async def scenario() -> None:
        publish_fake(tmp_path)
        missing(tmp_path)
        async with world(tmp_path, Script(doubled, law=law())) as w:
            w.script.block()
            clients = [w.ask(float(n)) for n in range(4)]
            await w.reaches(lambda: w.sample("ferry_in_flight") == 4)
            n_requests = w.engine.n_requests
            for _ in range(20):
                await asyncio.sleep(0)  # the one who measures has its turns
            assert w.engine.n_requests == n_requests
            w.script.release()
            assert [values(reply) for reply in await w.answers(clients)] == [[0.0], [2.0], [4.0], [6.0]]
            await measured(w)

    asyncio.run(scenario())


def test_all_instances_are_measured_at_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_fake(tmp_path)
        missing(tmp_path)
        toml = tmp_path / MODEL / "model.toml"
        toml.write_text(toml.read_text() + "instances = 2\nthreads = 1\n")
        async with world(tmp_path, Script(doubled, law=law())) as w:
            assert w.registry.find(MODEL).terms.why == "2x1 by model.toml"
            await measured(w)
            profile = w.registry.find(MODEL).terms.profile
            assert profile is not None
            assert (profile.placement, {cell.samples for cell in profile.cells}) == (Placement(2, 1), {2 * N_TIMES})

    asyncio.run(scenario())


def test_batches_that_would_make_requests_late_are_not_tried_but_reckoned(tmp_path: Path) -> None:
    """1 ms and 2.5 ms a row, SLO 20 ms: a batch of four takes 11 ms, which is more than half."""

    async def scenario() -> None:
        publish_fake(tmp_path, slo_s=0.02)
        missing(tmp_path)
        async with world(tmp_path, Script(doubled, law=law(1e-3, 2.5e-3))) as w:
            await measured(w)
            profile = w.registry.find(MODEL).terms.profile
            assert profile is not None
            n_samples = {cell.rows: cell.samples for cell in profile.cells}
            assert (n_samples[1], n_samples[8]) == (N_TIMES, 0)
            assert max(len(batch["x"]) for batch in w.script.batches) <= 4
            assert profile.predict(8) > MOST * 0.02, "by the law of the smaller ones"

    asyncio.run(scenario())


def test_a_model_of_which_hardly_anything_can_be_tried_goes_on_learning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One row takes more than half of the SLO, so nothing would be known of two."""

    async def scenario() -> None:
        publish_fake(tmp_path, slo_s=0.02)
        missing(tmp_path)
        with caplog.at_level("INFO"):
            async with world(tmp_path, Script(doubled, law=law(12e-3))) as w:
                await w.reaches(lambda: "too long for its SLO to be tried out" in caplog.text)
                assert source(w) is Source.LEARNING
                assert {len(batch["x"]) for batch in w.script.batches} == {1}

    asyncio.run(scenario())


def test_a_neighbour_with_a_tighter_slo_is_not_made_late(tmp_path: Path) -> None:
    """3 ms a row: two rows are too long for a neighbour with 10 ms. When it has gone they are measured, too."""

    async def scenario() -> None:
        publish_fake(tmp_path, slo_s=1.0)
        publish_fake(tmp_path, "neighbour", slo_s=0.01)
        missing(tmp_path)
        async with world(tmp_path, Script(doubled, law=law(0.0001, 0.003))) as w:
            await w.reaches(lambda: len(w.script.batches) >= N_TIMES + 3)
            for _ in range(20):
                await asyncio.sleep(0.001)
            assert max(len(batch["x"]) for batch in w.script.batches) == 1
            await w.registry.unload("neighbour")
            await measured(w)
            assert max(len(batch["x"]) for batch in w.script.batches) == 8

    asyncio.run(scenario())


def test_a_bug_in_measuring_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        publish_fake(tmp_path)
        missing(tmp_path)
        monkeypatch.setattr("server.runtime.measuring.Measuring._next", lambda self: 1 // 0)
        async with world(tmp_path, Script(doubled, law=law())) as w:
            await w.reaches(lambda: "a bug in ferry" in caplog.text)
            assert values((await w.answers([w.ask(1.0)]))[0]) == [2.0]

    asyncio.run(scenario())


def test_lengths_are_measured_too(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_fake(tmp_path, max_rows=2, ragged=Ragged("length", 1, 16, {"x": 0}, True))
        missing(tmp_path)
        async with world(tmp_path, Script(doubled, law=law(lengths=(1, 16), row_s=1e-5, max_rows=2))) as w:
            await measured(w)
            profile = w.registry.find(MODEL).terms.profile
            assert profile is not None
            assert (profile.measured_rows, profile.measured_lengths) == ((1, 2), (1, 8, 16))

    asyncio.run(scenario())


def test_the_next_start_needs_no_measuring(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_fake(tmp_path / "repository")
        foreign(tmp_path / "repository")
        async with world(tmp_path / "repository", Script(doubled, law=law()), cache=ProfileCache(tmp_path / "cache")) as w:
            await measured(w)
        async with world(tmp_path / "repository", Script(doubled, law=law()), cache=ProfileCache(tmp_path / "cache")) as w:
            assert source(w) is Source.CACHED
            assert w.sample("ferry_profile_source", source="cached") == 1
            n_before = len(w.script.batches)
            for _ in range(20):
                await asyncio.sleep(0)
            assert len(w.script.batches) == n_before, "nothing is tried out"

    asyncio.run(scenario())


def test_what_was_measured_in_a_bad_moment_is_measured_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Too slow a profile would refuse everybody, so that nothing could correct it."""

    async def scenario() -> None:
        publish_fake(tmp_path)
        foreign(tmp_path)
        cache = ProfileCache(None)
        async with world(tmp_path, Script(doubled, law=law(0.02)), cache=cache) as w:
            await measured(w)
            w.script.law = law(0.001)
            await w.registry.load(MODEL)
            assert "is faster than when it was measured" in caplog.text
            assert source(w) is Source.LEARNING
            await measured(w)
            profile = w.registry.find(MODEL).terms.profile
            assert profile is not None
            assert profile.predict(1) < 0.02

    asyncio.run(scenario())


def test_what_was_left_out_under_a_tighter_slo_is_measured_when_there_is_time(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_fake(tmp_path / "repository", slo_s=0.02)
        missing(tmp_path / "repository")
        cache, script = ProfileCache(tmp_path / "cache"), Script(doubled, law=law(1e-3, 2.5e-3))
        async with world(tmp_path / "repository", script, cache=cache) as w:
            await measured(w)
            (tmp_path / "repository" / MODEL / "model.toml").write_text('slo = "1s"\n')
            model = await w.registry.load(MODEL)
            assert source(w) is Source.CACHED, "better than nothing"
            await w.reaches(lambda: source(w) is Source.MEASURED)
            assert model.terms.profile is not None
            assert all(cell.samples for cell in model.terms.profile.cells)

    asyncio.run(scenario())


def test_what_was_kept_of_another_placement_does_not_count(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_fake(tmp_path)
        missing(tmp_path)
        async with world(tmp_path, Script(doubled, law=law())) as w:
            await measured(w)
            toml = tmp_path / MODEL / "model.toml"
            toml.write_text(toml.read_text() + "instances = 3\n")
            await w.registry.load(MODEL)
            assert source(w) is Source.LEARNING
            await measured(w)

    asyncio.run(scenario())


def test_a_model_that_turns_out_to_be_fast_is_loaded_again_to_run_on_the_event_loop(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_fake(tmp_path)
        missing(tmp_path)
        async with world(tmp_path, Script(doubled, law=law(1e-6), wait=lambda _: None)) as w:
            slow = w.registry.find(MODEL)
            assert not slow.inline
            await measured(w)
            await w.reaches(lambda: w.registry.find(MODEL) is not slow)
            fast = w.registry.find(MODEL)
            await w.reaches(lambda: w.script.n_open == 1)
            assert (fast.inline, source(w), fast.key.version) == (True, Source.CACHED, 1)
            assert values((await w.answers([w.ask(1.0)]))[0]) == [2.0]

    asyncio.run(scenario())


def test_a_newer_version_on_disk_is_not_loaded_on_that_occasion(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_fake(tmp_path)
        missing(tmp_path)
        async with world(tmp_path, Script(doubled, law=law(1e-6), wait=lambda _: None)) as w:
            publish_fake(tmp_path)
            await measured(w)
            assert versions(tmp_path / MODEL) == [1, 2]
            assert w.registry.find(MODEL).key.version == 1

    asyncio.run(scenario())


def test_a_model_that_fails_on_made_up_inputs_goes_on_learning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        publish_fake(tmp_path)
        missing(tmp_path)
        script = Script(doubled, law=law(), poison=lambda inputs: "too many" if len(inputs["x"]) > 1 else None)
        async with world(tmp_path, script) as w:
            await w.reaches(lambda: "cannot be measured while it serves" in caplog.text)
            assert source(w) is Source.LEARNING
            assert values((await w.answers([w.ask(1.0)]))[0]) == [2.0]
            assert w.sample("ferry_failed_total", reason="model_error") == 0, "nobody's request"

    asyncio.run(scenario())


def test_a_model_that_is_unloaded_meanwhile_is_not_measured_any_more(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_fake(tmp_path)
        missing(tmp_path)
        async with world(tmp_path, Script(doubled, law=law())) as w:
            w.script.block()
            await w.reaches(lambda: len(w.script.batches) > 1)
            going = asyncio.create_task(w.registry.unload(MODEL))
            await asyncio.sleep(0)
            w.script.release()
            await going
            assert w.script.n_open == 0

    asyncio.run(scenario())


@pytest.mark.parametrize("damage", [foreign, missing])
def test_text_is_taken_at_once(damage: Callable[[Path], None], tmp_path: Path) -> None:
    """What the tokenizer takes is measured when the model is loaded, which takes no time to speak of."""

    async def scenario() -> None:
        publish_text(tmp_path, cost=TextCost(77.0, 1.0, 1.0, 1))
        damage(tmp_path)
        tokenizer = HeldTokenizer()
        async with world(tmp_path, Script(summed, law=law(lengths=(1, LONGEST)), wait=lambda _: None), tokenizer) as w:
            text = w.registry.find(MODEL).text
            assert text is not None
            assert text.text_s < 1.0
            assert values((await w.answers([w.post(body_of("ab"))]))[0]) == [right("ab")]
            await measured(w)
            await w.reaches(lambda: w.script.n_open == 1)
            profile = w.registry.find(MODEL).terms.profile
            assert profile is not None
            assert profile.text == text

    asyncio.run(scenario())
