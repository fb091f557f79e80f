"""Both ends of a front end's connection on one event loop: slots, losses, retirements, notes, what goes wrong."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from server.backends.base import Array
from server.errors import Cancelled, EngineAway, EngineLost, FerryError, NotReady, NotYet, Refused, TooLarge
from server.fleet import link as link_module
from server.fleet.front_link import FrontLink
from server.fleet.slots import N_SLOTS, SLOT_BYTES
from server.fleet.table import RemoteModel
from server.runtime.clock import monotonic_clock
from server.runtime.work import WorkRequest
from tests.server.fleet.far_world import Far, far_engine
from tests.server.runtime.scripted_world import LIMIT_S, MODEL, World, publish_fake, world


def submit(far: Far, model: RemoteModel, x: Array) -> Asked:
    """`answer` of the request will be its outcome."""
    answer: asyncio.Future[list[Array]] = asyncio.get_running_loop().create_future()
    return Asked(far.remote.submit(model, {"x": x}, len(x), 0, answer), answer)


class Asked(NamedTuple):
    """A request and its outcome to come."""

    request: WorkRequest
    answer: asyncio.Future[list[Array]]


@dataclass(slots=True)
class Both:
    """A scripted engine and a front end's view of it."""

    near: World
    far: Far

    def ask(self, *values: float) -> Asked:
        x = np.array(values, np.float32).reshape(-1, 1)
        return submit(self.far, self.far.table.find(MODEL), x)

    @property
    def links(self) -> list[FrontLink]:
        return list(self.far.hub._links)

    async def until(self, true: Callable[[], bool]) -> None:
        await self.near.reaches(true)


@asynccontextmanager
async def both(folder: Path, max_rows: int = 8, **publish: Any) -> AsyncIterator[Both]:
    publish_fake(folder, max_rows=max_rows, **publish)
    async with world(folder) as near, far_engine(near.engine, near.registry) as far:
        yield Both(near, far)


def run(folder: Path, scenario: Callable[[Both], Awaitable[None]], **options: Any) -> None:
    async def main() -> None:
        async with both(folder, **options) as b:
            await scenario(b)

    asyncio.run(main())


async def outcome(asked: Asked) -> list[float] | FerryError:
    try:
        return list((await asyncio.wait_for(asyncio.shield(asked.answer), LIMIT_S))[0].reshape(-1))
    except FerryError as error:
        return error


ROWS = 3 * SLOT_BYTES // 4
"""So many rows of one float need three slots."""


def test_large_tensors_travel_in_slots_both_ways_and_all_slots_come_back(tmp_path: Path) -> None:
    async def scenario(b: Both) -> None:
        link = b.far.remote._link
        assert link is not None
        rounds = [[float(n)] * ROWS for n in range(6)]
        b.near.script.block()
        requests = [b.ask(*values) for values in rounds]
        assert link.n_slots_taken == 6 * 4  # the sizes of the tensor need a little room too
        b.near.script.release()
        for n, request in enumerate(requests):
            assert await outcome(request) == [2.0 * n] * ROWS
        del requests, request
        b.near.script.batches.clear()  # the script looks at what it ran
        await b.until(lambda: (link.n_slots_taken, b.links[0].n_slots_taken) == (0, 0))

    run(tmp_path, scenario, max_rows=ROWS)


def test_a_slot_lives_until_the_step_that_reads_it_is_done_even_when_its_client_is_gone(tmp_path: Path) -> None:
    async def scenario(b: Both) -> None:
        link = b.far.remote._link
        assert link is not None
        b.near.script.block()
        request = b.ask(*[7.0] * ROWS)
        await b.until(lambda: len(b.near.script.batches) == 2)  # the first was the warm-up
        b.far.remote.cancel(request.request)
        assert isinstance(await outcome(request), Cancelled)
        await b.until(lambda: link.n_open == 0)
        assert link.n_slots_taken == 4
        assert b.near.script.batches[1]["x"].sum() == 7.0 * ROWS
        b.near.script.batches.clear()
        assert link.n_slots_taken == 4
        b.near.script.release()
        await b.until(lambda: link.n_slots_taken == 0)
        assert b.near.sample("ferry_cancelled_total") == 1

    run(tmp_path, scenario, max_rows=ROWS)


def test_without_free_slots_tensors_travel_inline(tmp_path: Path) -> None:
    async def scenario(b: Both) -> None:
        link = b.far.remote._link
        assert link is not None
        taken = link._slots.take(N_SLOTS * SLOT_BYTES)
        assert taken == 0
        assert await outcome(b.ask(*[3.0] * ROWS)) == [6.0] * ROWS
        link._slots.give_back(taken)

    run(tmp_path, scenario, max_rows=ROWS)


def test_requests_of_one_turn_leave_in_one_write_and_reach_the_scheduler_together(tmp_path: Path) -> None:
    async def scenario(b: Both) -> None:
        link = b.far.remote._link
        assert link is not None
        writes: list[bytes] = []
        transport: Any = link._transport
        link._transport = type("Spy", (), {"write": lambda _, data: (writes.append(data), transport.write(data))})()  # type: ignore[assignment]
        requests = [b.ask(float(n)) for n in range(8)]
        assert [await outcome(request) for request in requests] == [[2.0 * n] for n in range(8)]
        link._transport = transport
        assert len(writes) == 1
        assert [len(batch["x"]) for batch in b.near.script.batches[1:]] == [8]

    run(tmp_path, scenario)


def test_an_engine_that_goes_fails_what_it_had_and_what_comes_next_until_it_is_back(tmp_path: Path) -> None:
    async def scenario(b: Both) -> None:
        b.near.script.block()
        model = b.far.table.find(MODEL)
        requests = [b.ask(1.0), b.ask(2.0)]
        await b.until(lambda: b.links[0].n_open == 2)
        b.links[0]._transport.abort()  # type: ignore[union-attr]
        for request in requests:
            error = await outcome(request)
            assert isinstance(error, EngineLost)
            assert (error.status, error.retryable, error.retry_after_s) == (503, True, 1.0)
        assert not b.far.table.serves(f"/v2/models/{MODEL}/infer")
        with pytest.raises(NotReady):
            b.far.table.find(MODEL)
        with pytest.raises(EngineAway, match="try again"):
            submit(b.far, model, np.ones((1, 1), np.float32))
        b.near.script.release()
        assert await b.far.remote.connected(LIMIT_S)
        assert await outcome(b.ask(4.0)) == [8.0]
        assert b.near.sample("ferry_cancelled_total") == 2  # for the engine it was the front end that went
        assert b.near.sample("ferry_in_flight") == 0

    run(tmp_path, scenario)


def test_a_front_end_that_goes_has_its_requests_cancelled_and_the_others_are_served(tmp_path: Path) -> None:
    async def scenario(b: Both) -> None:
        async with far_engine(b.near.engine, b.near.registry) as other:
            b.near.script.block()
            request = b.ask(1.0)
            x = np.array([[5.0]], np.float32)
            kept = submit(other, other.table.find(MODEL), x)
            await b.until(lambda: b.near.sample("ferry_in_flight") == 2)
            b.far.remote._link._transport.abort()  # type: ignore[union-attr]
            assert isinstance(await outcome(request), EngineLost)
            await b.until(lambda: b.near.sample("ferry_cancelled_total") == 1)
            b.near.script.release()
            assert await outcome(kept) == [10.0]
            assert b.near.sample("ferry_in_flight") == 0

    run(tmp_path, scenario)


def test_a_model_is_retired_only_when_the_front_ends_have_heard_of_it(tmp_path: Path) -> None:
    async def scenario(b: Both) -> None:
        b.near.script.block()
        waiting = b.ask(3.0)
        unloading = asyncio.create_task(b.near.registry.unload(MODEL))
        sent_before_it_heard = b.ask(4.0)
        await b.until(lambda: len(b.far.table) == 0)
        with pytest.raises(NotYet, match="does not serve") as gone:
            b.far.table.find(MODEL)
        assert gone.value.retry_after_s == 1.0  # the next try asks the engine, which says why
        assert not unloading.done()
        b.near.script.release()
        assert [await outcome(one) for one in (waiting, sent_before_it_heard)] == [[6.0], [8.0]]
        await asyncio.wait_for(unloading, LIMIT_S)

    run(tmp_path, scenario)


def test_two_models_that_are_retired_at_once_are_both_kept_until_it_is_heard(tmp_path: Path) -> None:
    publish_fake(tmp_path, "other")

    async def scenario(b: Both) -> None:
        one = np.ones((1, 1), np.float32)
        models = [b.far.table.find(name) for name in (MODEL, "other")]
        retiring = [asyncio.create_task(b.near.registry.unload(name)) for name in (MODEL, "other")]
        await asyncio.sleep(0)
        asked = [submit(b.far, model, one) for model in models]
        assert [await outcome(request) for request in asked] == [[2.0], [2.0]]
        await asyncio.wait_for(asyncio.gather(*retiring), LIMIT_S)

    run(tmp_path, scenario)


def test_what_comes_for_a_retired_model_is_refused(tmp_path: Path) -> None:
    """A front end that did not hear the news within its time."""

    async def scenario(b: Both) -> None:
        model = b.far.table.find(MODEL)
        await b.near.registry.unload(MODEL)
        late = submit(b.far, model, np.ones((1, 1), np.float32))
        error = await outcome(late)
        assert isinstance(error, Refused)
        assert (error.label, "try again" in str(error)) == ("draining", True)

    run(tmp_path, scenario)


def test_a_front_end_that_does_not_listen_holds_nothing_up_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.fleet.hub.HEARING_S", 0.05)
    monkeypatch.setattr("server.fleet.engine_link.EngineLink.received", lambda *_: None)

    async def main() -> None:
        publish_fake(tmp_path)
        async with world(tmp_path) as near, far_engine(near.engine, near.registry, is_heard=False) as far:
            await near.reaches(lambda: far.hub.n_links == 1)
            await asyncio.wait_for(near.registry.unload(MODEL), LIMIT_S)

    asyncio.run(main())


def test_refusals_at_the_front_ends_door_are_counted_by_the_engine(tmp_path: Path) -> None:
    async def scenario(b: Both) -> None:
        model = b.far.table.find(MODEL)
        now = monotonic_clock()
        for _ in range(3):
            with pytest.raises(Refused, match="until the server could read it"):
                b.far.remote.arrival(model, now - LIMIT_S - 1)
        assert b.far.remote.arrival(model, now) == now
        await b.until(lambda: b.near.sample("ferry_refused_total", reason="deadline") == 3)
        assert b.near.sample("ferry_in_flight") == 0
        stats = b.near.registry.find(MODEL).stats.to_json()["inference_stats"]["fail"]
        assert stats["count"] == 3
        assert stats["ns"] >= 3e9 * LIMIT_S

    run(tmp_path, scenario)


def test_an_engine_that_does_not_keep_up_is_given_nothing_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(b: Both) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(link_module.Link, "is_full", property(lambda _: True))
            with pytest.raises(Refused, match="does not read"):
                b.ask(1.0)
        await b.until(lambda: b.near.sample("ferry_refused_total", reason="queue_full") == 1)
        assert await outcome(b.ask(1.0)) == [2.0]

    run(tmp_path, scenario)


def test_tensors_that_fit_into_no_frame_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(b: Both) -> None:
        monkeypatch.setattr(link_module, "MOST_BYTES", 2 * SLOT_BYTES)
        with pytest.raises(TooLarge, match="fewer rows"):
            b.ask(*[1.0] * ROWS)
        assert b.far.remote.n_open == 0

    run(tmp_path, scenario, max_rows=ROWS)


def test_an_answer_that_cannot_be_packed_fails_alone(tmp_path: Path) -> None:
    async def scenario(b: Both) -> None:
        b.near.script.answer = lambda inputs: [np.array([["text"]] * len(inputs["x"]), dtype=object)]
        error = await outcome(b.ask(1.0))
        assert isinstance(error, FerryError)
        assert error.status == 500
        b.near.script.answer = lambda inputs: [inputs["x"]]
        assert await outcome(b.ask(1.0)) == [1.0]

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    "garbage", [struct.pack("<II", 0xFFFFFFF0, 1), struct.pack("<II", 4, 99) + b"abcd", struct.pack("<II", 8, 8) + bytes(8),
                struct.pack("<II", 3, 1) + b"abc", struct.pack("<II", 0, 5)],
    ids=["too large", "unknown kind", "slot not in use", "cut off", "not for it"],
)  # fmt: skip
def test_a_frame_that_is_wrong_ends_its_connection_loudly(
    tmp_path: Path, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(b: Both) -> None:
        b.near.script.block()
        request = b.ask(1.0)
        await b.until(lambda: b.links[0].n_open == 1)
        b.far.remote._link._transport.write(garbage)  # type: ignore[union-attr]
        assert isinstance(await outcome(request), EngineLost)
        assert "a connection between processes ends" in caplog.text
        b.near.script.release()
        assert await b.far.remote.connected(LIMIT_S)
        assert await outcome(b.ask(2.0)) == [4.0]

    run(tmp_path, scenario)


def test_who_connects_without_a_greeting_is_sent_away(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(b: Both) -> None:
        reader, writer = await asyncio.open_unix_connection(b.far.remote._address)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        with suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), LIMIT_S) == b""
        writer.close()
        assert "no front end's" in caplog.text
        assert await outcome(b.ask(2.0)) == [4.0]

    run(tmp_path, scenario)


def test_requests_are_equal_only_to_themselves(tmp_path: Path) -> None:
    """Numbers begin anew with each front end: the engine must never take one's request for another's."""

    async def scenario(b: Both) -> None:
        async with far_engine(b.near.engine, b.near.registry) as other:
            mine, theirs = b.ask(1.0), submit(other, other.table.find(MODEL), np.array([[5.0]], np.float32))
            assert mine.request.id == theirs.request.id
            assert (await outcome(mine), await outcome(theirs)) == ([2.0], [10.0])

    run(tmp_path, scenario)
