"""What holds an answer to a JSON schema: the protocols of whatever says which tokens may come next. No library and no wire format lives here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from server.backends.base import Array
from server.contract.generation import Generation


class Guide(Protocol):
    """How far one answer has come. Belongs to the thread of its instance."""

    def allowed(self) -> Array:
        """Which tokens may come next: one bit for each id, the lowest one first, uint8 [vocabulary ÷ 8 or more]. Ids that end answers may
        come where the value is complete, and nowhere else. The same until `accept`. Raises BatchError when the library gives up."""

    def accept(self, token: int) -> None:
        """The answer has got this token, which was allowed."""

    @property
    def is_whole(self) -> bool:
        """Whether the value is complete and nothing can follow."""


class Grammar(Protocol):
    """A compiled schema. May be shared by threads."""

    def guide(self) -> Guide:
        """For a new answer; takes some microseconds."""


class GrammarCompiler(Protocol):
    """Of one model."""

    def compile(self, schema: str) -> Grammar:
        """`schema`: a JSON schema, as JSON. Blocks for some milliseconds. One call at a time. Raises BadRequest, naming what cannot be kept,
        or what is not installed."""


class GrammarLibrary(Protocol):
    """Makes them."""

    def compiler(self, tokenizer: Callable[[], str], generation: Generation) -> GrammarCompiler:
        """`tokenizer`: TextCodec.serialized. Blocks for up to a second when the vocabulary is large. Where it cannot be done, the compiler
        says why to whoever asks it."""


class Grammars(Protocol):
    """The compiled schemas of a model. Belongs to the event loop's thread."""

    async def of(self, schema: str) -> Grammar:
        """Compiled elsewhere, unless it is known. Raises BadRequest as the compiler does, and Refused when too many wait."""
