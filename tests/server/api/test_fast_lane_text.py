"""Texts on the short way: answered, refused, given up by their client, on a connection that then takes the next request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson

from server.backends.scripted import Script
from tests.server.api.test_fast_lane import Bench
from tests.server.runtime.scripted_world import world
from tests.server.runtime.text_world import HeldTokenizer, body_of, publish_text, right, summed


def post(*texts: str, **parameters: Any) -> bytes:
    """All have one head: the body is filled up with blanks."""
    body = orjson.dumps(body_of(*texts, **parameters)).ljust(300)
    return b"POST /v2/models/fake/infer HTTP/1.1\r\nHost: h\r\nContent-Length: 300\r\n\r\n" + body


@asynccontextmanager
async def bench(repository: Path, tokenizer: HeldTokenizer) -> AsyncIterator[Bench]:
    publish_text(repository)
    async with world(repository, Script(summed), tokenizer) as w:
        made = Bench(w)
        await made.teach(post("known"))
        yield made


def test_texts_are_taken_and_answered_in_order(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bench(tmp_path, HeldTokenizer()) as b:
            protocol, line = b.connect()
            for texts in (("one",), ("two", "three", "four"), ("five",)):
                n_before = len(line.replies())
                protocol.data_received(post(*texts))
                await b.world.reaches(lambda: len(line.replies()) == n_before + 1)  # noqa: B023
            assert line.numbers() == [right(text) for text in ("one", "two", "three", "four", "five")]
            assert b.lane.heads.n_known == 1, "nothing went the long way"

    asyncio.run(scenario())


def test_a_text_that_is_refused_is_answered_after_the_read_that_brought_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bench(tmp_path, HeldTokenizer()) as b:
            protocol, line = b.connect()
            protocol.data_received(post("late", timeout=1))
            assert line.written == b""
            await b.world.reaches(lambda: len(line.replies()) == 1)
            protocol.data_received(post("bad?", "good"))
            await b.world.reaches(lambda: len(line.replies()) == 2)
            protocol.data_received(post("good"))
            await b.world.reaches(lambda: len(line.replies()) == 3)
            assert [reply.status for reply in line.replies()] == [503, 400, 200]
            assert line.replies()[1].error == "model fake/1: cannot be read"
            await b.world.reaches(lambda: b.world.sample("ferry_in_flight") == 0)

    asyncio.run(scenario())


def test_a_client_that_goes_takes_its_texts_with_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        tokenizer = HeldTokenizer()
        async with bench(tmp_path, tokenizer) as b:
            tokenizer.gate.clear()
            first, second = b.connect(), b.connect()
            first[0].data_received(post("held"))
            await b.world.reaches(lambda: tokenizer.calls[-1] == ["held"])
            second[0].data_received(post("gone", "too"))
            await b.world.reaches(lambda: b.world.sample("ferry_in_flight") == 3)
            second[0].connection_lost(None)
            assert b.world.sample("ferry_cancelled_total") == 2
            tokenizer.gate.set()
            await b.world.reaches(lambda: len(first[1].replies()) == 1)
            assert first[1].numbers() == [right("held")]
            assert second[1].written == b""
            assert tokenizer.calls[-1] == ["held"]

    asyncio.run(scenario())
