"""The short way: the same answers as the long way, one outcome each, and refusals before anything is spent."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from server.api import http_protocol
from server.api.arrival import Arrivals
from server.api.fast_lane import FastLane
from server.api.gathered_body import IN_PLACE_BYTES
from server.core.types import Refusal
from server.runtime.engine import TURN_ROWS
from tests.server.api.lines import DATE, Bench, Line, bench, post
from tests.server.runtime.scripted_world import publish_fake, world


def run(scenario: Callable[[], Any]) -> None:
    asyncio.run(scenario())


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The bodies that the lane took."""
    bodies: list[bytes] = []
    original = FastLane.take

    def take(self: FastLane, connection: Any, head: Any, body: bytes, *args: Any) -> Any:
        bodies.append(body)
        return original(self, connection, head, body, *args)

    monkeypatch.setattr(FastLane, "take", take)
    return bodies


def test_the_first_goes_the_long_way_and_the_next_the_short_one_to_the_same_answer(tmp_path: Path, taken: list[bytes]) -> None:
    async def scenario() -> None:
        async with bench(tmp_path) as b:
            protocol, line = b.connect()
            for n in (1, 2, 3):
                protocol.data_received(post(1.5, id="me"))
                await b.world.reaches(lambda: len(line.replies()) == n)  # noqa: B023
            first, *others = line.replies()
            assert first.json["id"] == "me"
            assert first.json["outputs"][0]["data"] == [3.0]
            assert first.headers["date"] == DATE.decode()
            assert all(other == first for other in others)
            assert len(taken) == 2

    run(scenario)


@pytest.mark.parametrize(
    ("request_", "status", "says"),
    [
        (post(1.0, path="/v2/models/nosuch/infer"), 404, "nosuch"),
        (post(1.0, path="/v2/models/fake/versions/9/infer"), 404, "no version '9'"),
        (post(1.0).replace(b"FP32", b"FP64"), 400, "FP64"),
        (post(1.0).replace(b'{"inputs', b'["inputs'), 400, "not valid JSON"),
        (post(1.0, parameters={"timeout": 1}), 503, "later than the 0.001 ms"),
    ],
    ids=range(5),
)
def test_errors_are_those_of_the_long_way(tmp_path: Path, taken: list[bytes], request_: bytes, status: int, says: str) -> None:
    async def scenario() -> None:
        async with bench(tmp_path) as b:
            await b.teach(request_)
            protocol, line = b.connect()
            for n in (1, 2):
                protocol.data_received(request_)
                await b.world.reaches(lambda: len(line.replies()) == n)  # noqa: B023
            protocol.data_received(post(2.0))
            await b.world.reaches(lambda: len(line.replies()) == 3)
            *wrong, good = line.replies()
            assert {(reply.status, says in reply.error) for reply in wrong} == {(status, True)}, wrong
            assert good.status == 200
            assert len(taken) >= 2

    run(scenario)


@pytest.fixture(params=[IN_PLACE_BYTES, 1], ids=["copied", "in place"])
def _gathered(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "IN_PLACE_BYTES", request.param)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.usefixtures("_gathered")
def test_a_body_in_many_pieces_is_gathered_and_what_follows_it_waits_for_its_turn(
    tmp_path: Path, taken: list[bytes], seed: int
) -> None:
    async def scenario() -> None:
        async with bench(tmp_path) as b:
            numbers = [[n + 0.125 * m for m in range(8)] for n in range(4)]
            requests = [post(*row) for row in numbers]
            await b.teach(requests[0])
            data, random = b"".join(requests), Random(seed)
            protocol, line = b.connect()
            start = data.index(b"{") + random.randrange(5)  # the head comes in one read, as it does
            for piece in (data[:start], *Line.pieces(data[start:], random)):
                await b.world.reaches(lambda: line.reads)
                line.receive(piece)
                if not line.replies():
                    protocol.timeout_keep_alive_handler()
                    assert not line.is_closed, "a connection that is at work is not idle"
            await b.world.reaches(lambda: len(line.replies()) == 4)
            assert line.numbers() == [2 * number for row in numbers for number in row]
            assert taken
            assert b.patience.n_watched == 0

    run(scenario)


@pytest.mark.usefixtures("_gathered")
def test_a_body_that_does_not_come_to_its_end_is_given_up_and_one_that_does_is_served_while_draining(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bench(tmp_path) as b:
            await b.teach(post(1.0))
            (slow, slow_line), (late, late_line), (gone, gone_line) = b.connect(), b.connect(), b.connect()
            for line in (slow_line, late_line, gone_line):
                line.receive(post(1.0)[:-3])
            assert b.patience.n_watched == 3
            late.shutdown()
            assert not late_line.is_closed
            late_line.receive(post(1.0)[-3:])
            await b.world.reaches(lambda: late_line.is_closed)
            assert late_line.numbers() == [2.0]
            slow.give_up()
            assert [reply.status for reply in slow_line.replies()] == [408]
            slow_line.receive(post(1.0)[-3:])
            assert len(slow_line.replies()) == 1
            gone.connection_lost(None)
            assert gone_line.written == b""
            assert b.patience.n_watched == 0

    run(scenario)


def test_requests_of_many_connections_share_a_batch_and_get_their_own_answers(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bench(tmp_path) as b:
            await b.teach(post(1.0))
            lines = [b.connect() for _ in range(6)]
            before = len(b.world.script.batches)
            for number, (protocol, _) in enumerate(lines):
                protocol.data_received(post(float(number)))
            await b.world.reaches(lambda: all(line.replies() for _, line in lines))
            assert [line.numbers() for _, line in lines] == [[2.0 * number] for number in range(6)]
            assert len(b.world.script.batches) - before < 6

    run(scenario)


def test_who_sends_on_before_the_answer_is_read_again_after_it_in_order(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bench(tmp_path) as b:
            await b.teach(post(1.0))
            protocol, line = b.connect()
            b.world.script.block()
            protocol.data_received(post(1.0))
            rest = post(2.0) + post(3.0, 4.0) + post(5.0)
            protocol.data_received(rest[:7])
            assert not line.reads
            protocol.data_received(rest[7:])
            b.world.script.release()
            await b.world.reaches(lambda: len(line.replies()) == 4)
            assert line.numbers() == [2.0, 4.0, 6.0, 8.0, 10.0]
            assert line.reads

    run(scenario)


def test_who_goes_is_cancelled_and_the_others_are_answered(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bench(tmp_path) as b:
            await b.teach(post(1.0))
            gone, lost = b.connect()
            stays, line = b.connect()
            b.world.script.block()
            gone.data_received(post(1.0))
            stays.data_received(post(2.0))
            gone.connection_lost(None)
            b.world.script.release()
            await b.world.reaches(lambda: len(line.replies()) == 1)
            assert line.numbers() == [4.0]
            assert lost.written == b""
            assert b.world.sample("ferry_cancelled_total") == 1
            assert b.world.sample("ferry_in_flight") == 0

    run(scenario)


def test_what_was_accepted_is_answered_before_a_drained_connection_ends(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bench(tmp_path) as b:
            await b.teach(post(1.0))
            busy, line = b.connect()
            idle, quiet = b.connect()
            b.world.script.block()
            busy.data_received(post(1.0))
            for protocol in (busy, idle):
                protocol.shutdown()
            assert (line.is_closed, quiet.is_closed) == (False, True)
            b.world.script.release()
            await b.world.reaches(lambda: line.is_closed)
            assert line.numbers() == [2.0]
            assert line.replies()[0].headers["connection"] == "close"

    run(scenario)


def test_a_line_that_is_used_is_not_idle_and_one_that_is_not_ends(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bench(tmp_path) as b:
            await b.teach(post(1.0))
            protocol, line = b.connect()
            protocol.data_received(post(1.0))
            protocol.timeout_keep_alive_handler()
            assert not line.is_closed
            await b.world.reaches(lambda: len(line.replies()) == 1)
            protocol.timeout_keep_alive_handler()
            assert line.is_closed

    run(scenario)


def test_who_waited_too_long_to_be_read_is_refused_undecoded_and_in_the_books(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with bench(tmp_path) as b:
            await b.teach(post(1.0))
            protocol, line = b.connect()
            n_batches = len(b.world.script.batches)
            monkeypatch.setattr(Arrivals, "waited_s", lambda _: 25.0)
            broken = post(1.0).replace(b'{"inputs', b'["inputs')
            for data in (post(1.0), broken):
                protocol.data_received(data)
            monkeypatch.setattr(Arrivals, "waited_s", lambda _: 5.0)
            protocol.data_received(post(1.0))
            await b.world.reaches(lambda: len(line.replies()) == 3)
            *late, young = line.replies()
            assert young.status == 200
            for reply in late:
                assert reply.status == 503
                assert "waited 25000 ms until" in reply.error
                assert "model fake/1" in reply.error
                assert int(reply.headers["retry-after"]) >= 5
            assert len(b.world.script.batches) == n_batches + 1
            assert b.world.sample("ferry_refused_total", reason=Refusal.DEADLINE.value) == 2
            assert b.world.sample("ferry_in_flight") == 0

    run(scenario)


def test_a_bug_ends_neither_the_connection_nor_the_batch_mates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with bench(tmp_path) as b:
            await b.teach(post(1.0))
            codec = b.lane._codecs.of(b.world.registry.find("fake"))
            one, line = b.connect()
            other, fine = b.connect()
            encode, wrong = type(codec.encoder).encode, iter([True, False])

            def bad(*args: Any) -> Any:
                if next(wrong):
                    raise KeyError("planted")
                return encode(*args)

            with monkeypatch.context() as patch:
                patch.setattr(type(codec.encoder), "encode", bad)
                for protocol in (one, other):
                    protocol.data_received(post(1.0))
                await b.world.reaches(lambda: bool(line.replies() and fine.replies()))
            assert (line.replies()[0].status, fine.numbers()) == (500, [2.0])
            with monkeypatch.context() as patch:
                patch.setattr(type(codec.decoder), "decode", bad)
                one.data_received(post(1.0))
            assert [reply.status for reply in line.replies()] == [500, 500]
            assert "planted" not in line.replies()[1].error
            one.data_received(post(1.0))
            await b.world.reaches(lambda: len(line.replies()) == 3)
            assert line.replies()[2].status == 200

    run(scenario)


@pytest.mark.parametrize("batch_s", [1e-5, 1e-3], ids=["inline", "in a thread"])
def test_a_crowd_in_one_turn_of_the_loop_does_not_wait_for_its_end(tmp_path: Path, batch_s: float) -> None:
    async def scenario() -> None:
        publish_fake(tmp_path, slo_s=20.0, batch_s=batch_s)
        async with world(tmp_path) as w:
            b = Bench(w)
            await b.teach(post(1.0))
            lines = [b.connect() for _ in range(2 * TURN_ROWS + 5)]
            submitted = []
            for number, (protocol, line) in enumerate(lines):
                protocol.data_received(post(float(number % 7)))
                submitted.append(sum(bool(line.written) for _, line in lines))
            n_early = submitted[-1]  # nothing has been awaited: this is still the same turn
            is_inline = w.registry.find("fake").inline
            assert n_early == (2 * TURN_ROWS if is_inline else 0)
            assert all(n <= TURN_ROWS for n in submitted[: 2 * TURN_ROWS])
            await w.reaches(lambda: all(line.replies() for _, line in lines))
            assert [line.numbers() for _, line in lines] == [[2.0 * (number % 7)] for number in range(len(lines))]

    run(scenario)


def test_what_a_request_made_is_gone_with_its_answer(tmp_path: Path) -> None:
    """Cycles would wait for the garbage collector, which stops everybody."""

    async def scenario() -> None:
        async with bench(tmp_path) as b:
            await b.teach(post(1.0))
            protocol, line = b.connect()
            gc.collect()
            gc.disable()
            try:
                for n in range(50):
                    protocol.data_received(post(float(n % 8)))
                    while len(line.replies()) <= n:  # without a timer, a task or an exception of its own
                        await asyncio.sleep(0)
                assert gc.collect() < 50
            finally:
                gc.enable()

    run(scenario)
