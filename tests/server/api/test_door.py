"""Which requests are turned away before they are parsed: exactly those of the usual form that are too late."""

from __future__ import annotations

import asyncio
from pathlib import Path

import orjson
import pytest

from server.api.door import Door
from server.runtime.clock import monotonic_clock
from server.runtime.work import Work
from tests.server.runtime.scripted_world import World, publish_fake, world

BODY = orjson.dumps({"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1.0]}]})


def http(path: str = "/v2/models/fake/infer", headers: str = "", body: bytes = BODY, length: int | None = None) -> bytes:
    n_bytes = len(body) if length is None else length
    return f"POST {path} HTTP/1.1\r\nHost: h\r\n{headers}Content-Length: {n_bytes}\r\n\r\n".encode() + body


def at_the_door(repository: Path, *cases: tuple[bytes, float]) -> tuple[list[bytes | None], World]:
    """What the door says to requests that have waited so many seconds, for a model with an SLO of 20 s."""
    publish_fake(repository)

    async def scenario() -> tuple[list[bytes | None], World]:
        async with world(repository) as w:
            door = Door()
            door.open(w.engine, w.registry)
            return [door.refusal(data, seconds) for data, seconds in cases], w

    return asyncio.run(scenario())


def test_a_request_that_is_too_late_is_refused_whole_and_in_the_books(tmp_path: Path) -> None:
    (young, old), w = at_the_door(tmp_path, (http(), 19.0), (http(), 25.0))
    assert young is None
    assert old is not None
    head, _, body = old.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n")
    assert f"content-length: {len(body)}\r\n".encode() in head
    assert b"\r\nretry-after: " in head
    error = orjson.loads(body)["error"]
    assert "waited 25000 ms until" in error
    assert "model fake/1" in error
    assert w.sample("ferry_refused_total", reason="deadline") == 1
    assert w.sample("ferry_in_flight") == 0


@pytest.mark.parametrize(
    "data",
    [
        http("/v2/models/nosuch/infer"),
        http("/v2/models/fake/versions/1/infer"),
        http("/v2/models/fake/ready"),
        http("/v2/models/fake/infer?x=1"),
        http("/v2/models//infer"),
        http("/v2/models/fake"),
        http(length=len(BODY) + 1),
        http(length=len(BODY) - 1),
        http(headers="Transfer-Encoding: chunked\r\n"),
        http(headers="Connection: close\r\n"),
        http(headers="EXPECT: 100-continue\r\n"),
        http()[:40],
        http().replace(b"HTTP/1.1", b"HTTP/1.0"),
        http().replace(b"POST", b"GET"),
        http().replace(b"Content-Length", b"Content-Size"),
        http() + http(),
        b"",
    ],
)
def test_whatever_is_unusual_takes_its_normal_course(tmp_path: Path, data: bytes) -> None:
    (answer,), w = at_the_door(tmp_path, (data, 25.0))
    assert answer is None
    assert w.sample("ferry_refused_total", reason="deadline") == 0


def test_before_it_is_open_everybody_is_let_in() -> None:
    assert Door().refusal(http(), 25.0) is None


def test_replies_that_take_long_are_taken_off_the_deadlines(tmp_path: Path) -> None:
    publish_fake(tmp_path)

    async def scenario() -> None:
        async with world(tmp_path) as w:
            model = w.registry.find("fake")
            (reply,) = await w.answers([w.ask(1.0)])
            assert reply is not None
            assert reply.status == 200
            work = Work({}, asyncio.get_running_loop().create_future(), 20.0, monotonic_clock() - 10.0)
            assert w.engine.late_s(model, 15.0) < 0
            for _ in range(200):
                w.engine.replied(work)
            assert w.engine.late_s(model, 15.0) > 0

    asyncio.run(scenario())
