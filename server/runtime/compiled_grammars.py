"""The schemas that clients of a model hold their answers to: compiled one at a time off the event loop, and kept."""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from server.core.types import ModelKey, Refusal
from server.errors import BadRequest, Refused
from server.generation.grammars import Grammar, GrammarCompiler

MOST_KEPT = 128
MOST_WAITING = 32
MOST_S = 10.0
"""A request waits for its schema no longer than this."""


class CompiledGrammars:
    """Of one model. Satisfies generation.grammars.Grammars."""

    def __init__(self, key: ModelKey, compiler: GrammarCompiler | None, most_s: float = MOST_S) -> None:
        """`compiler`: None where the server was started without such a library."""
        self._key = key
        self._compiler = compiler
        self._most_s = most_s
        self._known: OrderedDict[str, Grammar] = OrderedDict()
        self._under_way: dict[str, asyncio.Task[Grammar]] = {}
        self._turn = asyncio.Lock()

    async def of(self, schema: str) -> Grammar:
        """See Grammars. Who asks for the same one at the same time waits for the same; one that goes away leaves it to the others."""
        known = self._known.get(schema)
        if known is not None:
            self._known.move_to_end(schema)
            return known
        task = self._under_way.get(schema)
        if task is None:
            task = self._start(schema)
        try:
            async with asyncio.timeout(self._most_s):
                return await asyncio.shield(task)
        except TimeoutError:
            raise BadRequest(
                f"model {self._key} has not compiled the schema within {self._most_s:g} s; make it simpler, or ask again later"
            ) from None

    def _start(self, schema: str) -> asyncio.Task[Grammar]:
        if self._compiler is None:
            raise BadRequest("this server was started without a library that holds answers to a schema")
        if len(self._under_way) >= MOST_WAITING:
            raise Refused(
                f"model {self._key} has {MOST_WAITING} schemas to compile, which is its limit; ask again later, with fewer of them",
                Refusal.QUEUE_FULL.value, 1.0,
            )  # fmt: skip
        task = self._under_way[schema] = asyncio.ensure_future(self._compile(schema, self._compiler))
        return task

    async def _compile(self, schema: str, compiler: GrammarCompiler) -> Grammar:
        try:
            async with self._turn:
                grammar = await asyncio.to_thread(compiler.compile, schema)
        finally:
            del self._under_way[schema]
        self._known[schema] = grammar
        if len(self._known) > MOST_KEPT:
            self._known.popitem(last=False)
        return grammar
