"""Between texts and token ids: the protocols of a version's tokenizer, of the text of an answer as it grows, and of its chat template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from server.contract.generation import Generation


class TextStream(Protocol):
    """The text of one answer while its tokens come."""

    def add(self, token: int) -> str:
        """The text that is complete by this token; "" while a character is not."""

    def rest(self) -> str:
        """Once, at the end: what is left of a character that was never completed."""


class TextCodecs(Protocol):
    """Loads them."""

    def codec(self, folder: Path, generation: Generation) -> TextCodec:
        """That of the version in this folder. Raises LoadError when its files are none, or the library is missing."""


class TextCodec(Protocol):
    """A version's tokenizer and chat template. May be called on any thread."""

    def encode(self, text: str, special: bool) -> list[int]:
        """Its ids. `special`: with those that the tokenizer puts around a text (a chat template writes them itself)."""

    def decode(self, ids: Sequence[int]) -> str:
        """Their text, special tokens left out."""

    def piece(self, token: int) -> bytes:
        """The bytes of one token by itself, for log probabilities; not always UTF-8."""

    def stream(self, after: Sequence[int] = ()) -> TextStream:
        """For a new answer. `after`: the ids whose text it goes on with, if it does: without them a space that it begins with is lost."""

    def serialized(self) -> str:
        """The tokenizer as the `tokenizers` library writes it: JSON. Some megabytes, made for each call."""

    @property
    def chats(self) -> bool:
        """Whether there is a chat template."""

    def chat(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The prompt of a conversation, by the template, ready for the assistant's turn. Raises BadRequest when the template refuses it."""
