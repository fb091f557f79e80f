"""Time, class and client on the short way: from heads that are known, at once, and judged by the right class when refused unread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from server.api.clients import Clients
from server.api.fast_lane import FastLane
from server.api.known_heads import KnownHeads
from server.backends.scripted import Script
from tests.child_server import Reply
from tests.server.api.lines import Bench, Line, post
from tests.server.runtime.scripted_world import World, doubled, publish_fake, world


def with_header(request: bytes, line: str) -> bytes:
    head, _, body = request.partition(b"\r\n\r\n")
    return b"\r\n".join((head, line.encode(), b"", body))


def without_body(request: bytes) -> bytes:
    """The same head over a body that is refused: nothing runs, and nothing is learnt about how fast the device is."""
    head, _, body = request.partition(b"\r\n\r\n")
    return head + b"\r\n\r\n" + b" " * len(body)


OTHER = post(1.0).replace(b"Host: h", b"Host: other")
URGENT = [
    post(1.0, parameters={"priority": 1}),
    post(1.0, parameters={"priority": "high"}),
    with_header(post(1.0), "X-Request-Priority: 1"),
    with_header(post(1.0), "x-request-priority:high"),
]
ALIKE = [
    post(1.0), post(1.0, parameters={"priority": 3}), with_header(post(1.0), "X-Request-Priority: low"),
    with_header(post(1.0, parameters={"priority": 1}), "X-Request-Priority: 2"),
]  # fmt: skip


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


async def answered(w: World, line: Line) -> Reply:
    await w.reaches(lambda: len(line.replies()) == 1)
    return line.replies()[0]


@asynccontextmanager
async def crowded(folder: Path, *known: bytes) -> AsyncIterator[Bench]:
    """A device that is held, and behind it more work than requests without a higher class can wait for."""
    publish_fake(folder, slo_s=3.5, batch_s=1.0, max_rows=1)
    async with world(folder, Script(doubled, wait=lambda _: None)) as w:
        b = Bench(w)
        await b.teach(without_body(OTHER), *map(without_body, known))
        first = await w.blocked()
        others = [w.ask(1.0), w.ask(2.0)]
        await w.queued(2)
        yield b
        w.script.release()
        await w.answers([first, *others])


@pytest.mark.parametrize("request_", URGENT, ids=range(4))
def test_an_urgent_one_gets_through_a_crowd(tmp_path: Path, taken: list[bytes], request_: bytes) -> None:
    async def scenario() -> None:
        async with crowded(tmp_path, request_) as b:
            protocol, line = b.connect()
            protocol.data_received(request_)
            assert not line.written
            assert len(taken) == 1
            b.world.script.release()
            assert (await answered(b.world, line)).status == 200

    asyncio.run(scenario())


@pytest.mark.parametrize("request_", ALIKE, ids=range(4))
def test_the_others_are_refused(tmp_path: Path, taken: list[bytes], request_: bytes) -> None:
    async def scenario() -> None:
        async with crowded(tmp_path, request_) as b:
            protocol, line = b.connect()
            protocol.data_received(request_)
            reply = await answered(b.world, line)
            assert (reply.status, "3500 ms allowed by its SLO" in reply.error) == (503, True)
            assert len(taken) == 1

    asyncio.run(scenario())


def test_a_class_in_the_head_costs_no_look_at_the_body(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        low = with_header(post(1.0), "X-Request-Priority: low")
        async with crowded(tmp_path, low) as b:
            decoder = type(b.lane._codecs.of(b.world.registry.find("fake")).decoder)
            monkeypatch.setattr(decoder, "decode", lambda *_: pytest.fail("it was decoded"))
            for request in (low, OTHER):
                protocol, line = b.connect()
                protocol.data_received(request)
                assert line.replies()[0].status == 503

    asyncio.run(scenario())


@pytest.mark.parametrize(("header", "status"), [("high", 200), ("normal", 503), ("low", 503), ("0", 503)])
def test_an_overloaded_loop_sheds_whoever_is_not_more_urgent_than_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, header: str, status: int
) -> None:
    async def scenario() -> None:
        publish_fake(tmp_path)
        async with world(tmp_path) as w:
            b = Bench(w)
            request = with_header(post(1.0), f"X-Request-Priority: {header}")
            await b.teach(request)
            monkeypatch.setattr(b.shedder, "sheds", lambda _: True)
            protocol, line = b.connect()
            protocol.data_received(request)
            reply = await answered(w, line)
            assert (reply.status, "requests come faster" in reply.body.decode()) == (status, status == 503)

    asyncio.run(scenario())


def test_a_time_in_the_head_counts_each_time(tmp_path: Path, taken: list[bytes]) -> None:
    async def scenario() -> None:
        publish_fake(tmp_path)
        async with world(tmp_path) as w:
            b = Bench(w)
            hurried, patient = (with_header(post(1.0), f"X-Request-Timeout: {time}") for time in ("1us", "10 s"))
            await b.teach(hurried, patient)
            for _ in range(2):
                for request, status in ((hurried, 503), (patient, 200)):
                    protocol, line = b.connect()
                    protocol.data_received(request)
                    assert (await answered(w, line)).status == status
            assert len(taken) == 4

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (with_header(post(1.0), "X-Request-Priority: 9"), "header X-Request-Priority is '9'; the classes are 1 (high)"),
        (with_header(post(1.0), "X-Request-Timeout: soon"), "'soon' is not a duration"),
    ],
    ids=["class", "time"],
)
def test_what_makes_no_sense_is_told_on_both_ways(tmp_path: Path, request_: bytes, says: str) -> None:
    async def scenario() -> None:
        publish_fake(tmp_path)
        async with world(tmp_path) as w:
            b = Bench(w)
            for _ in range(3):
                protocol, line = b.connect()
                protocol.data_received(request_)
                reply = await answered(w, line)
                assert (reply.status, says in reply.error) == (400, True)

    asyncio.run(scenario())


def test_the_lane_tells_the_engine_who_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clients = Clients("x-api-key")
    key = clients.by_headers([(b"x-api-key", b"secret")])
    asked: list[int] = []

    async def scenario() -> None:
        publish_fake(tmp_path)
        async with world(tmp_path) as w:
            b = Bench(w)
            heads = KnownHeads(1 << 20, compresses=False, clients=clients)
            b.lane = FastLane(heads, w.engine, w.registry, b.lane._codecs, b.shedder, clients)
            anonymous, known = post(1.0), with_header(post(1.0), "X-Api-Key: secret")
            await b.teach(anonymous, known)
            submit: Callable[..., Any] = w.engine.submit
            monkeypatch.setattr(w.engine, "submit", lambda *args: asked.append(args[8]) or submit(*args))
            for request in (anonymous, known):
                protocol, line = b.connect()
                protocol.client = ("10.0.0.1", 5)
                protocol.data_received(request)
                assert (await answered(w, line)).status == 200

    asyncio.run(scenario())
    assert asked == [clients.by_address("10.0.0.1"), key]
