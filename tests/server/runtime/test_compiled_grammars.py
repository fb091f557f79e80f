"""Schemas are compiled one at a time, off the event loop, once, and kept; who waits too long or behind too many is told."""

from __future__ import annotations

import asyncio
import threading
from typing import cast

import pytest

from server.core.types import ModelKey
from server.errors import BadRequest, Refused
from server.generation.grammars import Grammar
from server.runtime.compiled_grammars import MOST_KEPT, MOST_WAITING, CompiledGrammars

KEY = ModelKey("talker", 3)


class Compiler:
    """Compiles when it is let; remembers what, and in which threads."""

    def __init__(self, is_open: bool = True) -> None:
        self.compiled: list[str] = []
        self.threads: set[int] = set()
        self.n_now = self.n_most = 0
        self.gate = threading.Event()
        if is_open:
            self.gate.set()

    def compile(self, schema: str) -> Grammar:
        self.n_now += 1
        self.n_most = max(self.n_most, self.n_now)
        self.threads.add(threading.get_ident())
        assert self.gate.wait(30)
        self.compiled.append(schema)
        self.n_now -= 1
        if schema == "bad":
            raise BadRequest("the schema cannot be kept: planted")
        return cast(Grammar, object())


def test_a_schema_is_compiled_once_and_elsewhere() -> None:
    async def scenario() -> None:
        compiler = Compiler()
        grammars = CompiledGrammars(KEY, compiler)
        first = await asyncio.gather(*[grammars.of(schema) for schema in "aabba"])
        assert [one is first[0] for one in first] == [True, True, False, False, True]
        assert await grammars.of("a") is first[0]
        assert compiler.compiled == ["a", "b"]
        assert threading.get_ident() not in compiler.threads
        assert compiler.n_most == 1, "one at a time"

    asyncio.run(scenario())


def test_a_bad_one_is_told_to_all_who_asked_and_not_kept() -> None:
    async def scenario() -> None:
        grammars = CompiledGrammars(KEY, Compiler())
        outcomes = await asyncio.gather(*[grammars.of("bad") for _ in range(3)], return_exceptions=True)
        assert [str(one) for one in outcomes] == ["the schema cannot be kept: planted"] * 3
        assert await grammars.of("good")
        with pytest.raises(BadRequest, match="planted"):
            await grammars.of("bad")

    asyncio.run(scenario())


def test_only_the_last_ones_are_kept() -> None:
    async def scenario() -> None:
        compiler = Compiler()
        grammars = CompiledGrammars(KEY, compiler)
        for number in range(MOST_KEPT):
            await grammars.of(f"{number}")
        await grammars.of("0")
        await grammars.of("one more")
        compiler.compiled.clear()
        for schema in ("0", "one more", "1"):
            await grammars.of(schema)
        assert compiler.compiled == ["1"]

    asyncio.run(scenario())


def test_who_waits_too_long_or_behind_too_many_is_told() -> None:
    async def scenario() -> None:
        compiler = Compiler(is_open=False)
        grammars = CompiledGrammars(KEY, compiler, most_s=0.01)
        with pytest.raises(BadRequest, match=r"talker/3 has not compiled the schema within 0.01 s; make it simpler"):
            await grammars.of("slow")
        others = await asyncio.gather(*[grammars.of(f"{number}") for number in range(MOST_WAITING - 1)], return_exceptions=True)
        assert {type(one) for one in others} == {BadRequest}
        with pytest.raises(Refused, match=f"has {MOST_WAITING} schemas to compile, which is its limit") as found:
            await grammars.of("one more")
        assert found.value.retry_after_s == 1.0
        compiler.gate.set()
        while len(compiler.compiled) < MOST_WAITING:
            await asyncio.sleep(0.001)
        assert await grammars.of("slow"), "it was compiled all the same"
        assert compiler.compiled.count("slow") == 1

    asyncio.run(scenario())


def test_one_that_goes_away_leaves_it_to_the_others() -> None:
    async def scenario() -> None:
        compiler = Compiler(is_open=False)
        grammars = CompiledGrammars(KEY, compiler)
        gone, other = asyncio.ensure_future(grammars.of("a")), asyncio.ensure_future(grammars.of("a"))
        await asyncio.sleep(0)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        compiler.gate.set()
        assert await other is await grammars.of("a")

    asyncio.run(scenario())


def test_without_a_library_it_says_so() -> None:
    with pytest.raises(BadRequest, match="started without a library"):
        asyncio.run(CompiledGrammars(KEY, None).of("{}"))
