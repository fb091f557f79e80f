"""What a client may not do to a connection, or to others' by its own: teach a wrong head, leave answers unread, keep it with nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.server.api.lines import bench, post


def run(scenario: Callable[[], Any]) -> None:
    asyncio.run(scenario())


GET = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"
BODY_TO_COME = b"POST /v2/models/fake/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"


@pytest.mark.parametrize(
    "data", [GET + BODY_TO_COME, post(1.0) + BODY_TO_COME, b"\r\n\r\n" + BODY_TO_COME, b"\r\n" + post(1.0)]
)
def test_nothing_is_learnt_of_a_read_that_begins_with_something_else(tmp_path: Path, data: bytes) -> None:
    """Or one client could say what another one's head means."""

    async def scenario() -> None:
        async with bench(tmp_path) as b:
            protocol, _ = b.connect()
            protocol.data_received(data)
            await asyncio.sleep(0.01)
            assert b.lane.heads.n_known == 0
            protocol.connection_lost(None)

    run(scenario)


def test_who_does_not_read_its_answers_gets_no_more_of_them(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bench(tmp_path) as b:
            await b.teach(post(1.0))
            protocol, line = b.connect()
            protocol.pause_writing()
            for number in (1.0, 2.0, 3.0):
                protocol.data_received(post(number))
                await asyncio.sleep(0.01)
            assert line.written == b""
            protocol.resume_writing()
            await b.world.reaches(lambda: len(line.replies()) == 3)
            assert line.numbers() == [2.0, 4.0, 6.0]

    run(scenario)


def test_who_wants_the_connection_to_end_has_it_ended_each_time(tmp_path: Path) -> None:
    closing = post(1.0).replace(b"Host: h", b"Connection: Close")

    async def scenario() -> None:
        async with bench(tmp_path) as b:
            for _ in range(2):
                protocol, line = b.connect()
                protocol.data_received(closing)
                await b.world.reaches(lambda: line.is_closed)  # noqa: B023
                assert line.numbers() == [2.0]

    run(scenario)


@pytest.mark.parametrize("before", [b"", post(1.0)])
def test_empty_lines_do_not_keep_a_connection(tmp_path: Path, before: bytes) -> None:
    async def scenario() -> None:
        async with bench(tmp_path) as b:
            protocol, line = b.connect()
            if before:
                protocol.data_received(before)
                await b.world.reaches(lambda: len(line.replies()) == 1)
            protocol.data_received(b"\r\n")
            timer = protocol.timeout_keep_alive_task
            assert timer is not None
            assert not timer.cancelled()
            protocol.timeout_keep_alive_handler()
            assert line.is_closed

    run(scenario)


def test_a_request_whose_head_came_in_two_reads_is_not_idle_while_it_runs(tmp_path: Path) -> None:
    """Its first bytes came before the answer to the one before it, which then sets the timer."""

    async def scenario() -> None:
        async with bench(tmp_path) as b:
            protocol, line = b.connect()
            b.world.script.block()
            protocol.data_received(post(1.0))
            await b.world.reaches(lambda: bool(b.world.script.batches))
            protocol.data_received(post(2.0)[:10])
            b.world.script.release()
            await b.world.reaches(lambda: len(line.replies()) == 1)
            b.world.script.block()
            protocol.data_received(post(2.0)[10:])
            await asyncio.sleep(0.01)
            timer = protocol.timeout_keep_alive_task
            assert timer is None or timer.cancelled()
            b.world.script.release()
            await b.world.reaches(lambda: len(line.replies()) == 2)
            assert line.numbers() == [2.0, 4.0]
            assert protocol.timeout_keep_alive_task is not None

    run(scenario)


@pytest.mark.parametrize(
    "data", [post(1.0).replace(b"Host: h", b"Connection: Upgrade\r\nUpgrade: h2c"), post(1.0) + b"\x00 no HTTP\r\n\r\n"]
)
def test_a_request_with_something_odd_behind_it_is_not_idle_while_it_runs(tmp_path: Path, data: bytes) -> None:
    async def scenario() -> None:
        async with bench(tmp_path) as b:
            protocol, line = b.connect()
            b.world.script.block()
            protocol.data_received(data)
            await b.world.reaches(lambda: bool(b.world.script.batches))
            timer = protocol.timeout_keep_alive_task
            assert timer is None or timer.cancelled()
            b.world.script.release()
            await b.world.reaches(lambda: len(line.replies()) >= 1)
            assert line.replies()[0].status == 200

    run(scenario)


def in_passing(number: float) -> bytes:
    """A request that asks for HTTP/2, as the client's does that comes with Java."""
    return post(number).replace(b"Host: h", b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x")


@pytest.mark.parametrize("before", [b"", in_passing(1.0)])
def test_what_follows_a_last_request_spoils_no_answer(tmp_path: Path, before: bytes) -> None:
    async def scenario() -> None:
        async with bench(tmp_path) as b:
            protocol, line = b.connect()
            last = post(2.0).replace(b"Host: h", b"Host: h\r\nConnection: close")
            protocol.data_received(before + last + b"GET / HTTP/1.1\r\n\r\n")
            await b.world.reaches(lambda: line.is_closed)
            assert line.numbers() == [2.0, 4.0][-len(line.replies()) :]
            assert len(line.replies()) == 1 + bool(before)

    run(scenario)


@pytest.mark.parametrize("size", [1, 50, 100_000])
def test_who_asks_for_http_2_in_passing_is_served_body_and_all(tmp_path: Path, size: int) -> None:
    """Whatever pieces the request comes in, and the one after it."""
    asks = [in_passing(number) for number in (1.0, 2.0)]
    data = asks[0] + post(3.0) + asks[1] + post(4.0)

    async def scenario() -> None:
        async with bench(tmp_path) as b:
            protocol, line = b.connect()
            for at in range(0, len(data), size):
                protocol.data_received(data[at : at + size])
            await b.world.reaches(lambda: len(line.replies()) == 4)
            assert line.numbers() == [2.0, 6.0, 4.0, 8.0]
            assert b.patience.n_watched == 0
            assert not line.is_closed

    run(scenario)
