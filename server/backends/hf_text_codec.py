"""Texts and token ids of a version that generates, by the `tokenizers` library, and its chat template, by jinja2 in a sandbox.

It satisfies `server.generation.texts.TextCodec`. Nothing here knows requests.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn

import jinja2
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment

from server.backends.base import LoadError
from server.errors import BadRequest, BadText

if TYPE_CHECKING:
    import tokenizers
    from jinja2.nodes import Node
    from jinja2.parser import Parser

UNFINISHED = "\ufffd"
"""What the library shows for bytes that are no character, or not yet."""

MOST_HELD = 64
"""Tokens in a row that may all look unfinished; a character has at most four bytes, so more of them is garbage, which is shown."""

N_BEFORE = 8
"""Tokens of a prompt that say how the first ones of its answer are written."""

_WORD_MARK = "\u2581"
"""Stands for a space in the vocabularies of SentencePiece."""

CalendarMs = Callable[[], int]


class HfTextCodec:
    """One tokenizer and, where there is one, its chat template."""

    def __init__(self, loaded: tokenizers.Tokenizer, template: ChatTemplate | None) -> None:
        """`loaded` is this codec's own: padding and truncation are switched off."""
        loaded.no_padding()
        loaded.no_truncation()
        self._loaded = loaded
        self._template = template
        added = loaded.get_added_tokens_decoder()
        self._specials = frozenset(number for number, token in added.items() if token.special)
        self._pieces = _Pieces(loaded, {number: token.content for number, token in added.items()})

    def encode(self, text: str, special: bool) -> list[int]:
        """Its ids. `special`: with those that the tokenizer puts around a text. Raises BadText when the library cannot do it."""
        try:
            ids: list[int] = self._loaded.encode(text, add_special_tokens=special).ids
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a panic of the library, which is written in Rust, is not an Exception
            raise BadText(f"the text cannot be tokenised: {' '.join(str(error).split()) or type(error).__name__}") from None
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Their text, special tokens left out."""
        try:
            text: str = self._loaded.decode(list(ids), skip_special_tokens=True)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # as above; who asks for it guards against Exceptions
            raise RuntimeError(f"the tokenizer cannot decode {list(ids)}: {error}") from None
        return text

    def piece(self, token: int) -> bytes:
        """The bytes of one token by itself; b"" for an id that the tokenizer does not know."""
        return self._pieces.of(token)

    def stream(self, after: Sequence[int] = ()) -> HfTextStream:
        """For a new answer, which goes on with the text of `after`."""
        return HfTextStream(self.decode, self._specials, after)

    def serialized(self) -> str:
        """The content of its tokenizer.json."""
        content: str = self._loaded.to_str()
        return content

    @property
    def chats(self) -> bool:
        return self._template is not None

    def chat(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The prompt of a conversation, ready for the assistant's turn. Raises BadRequest when the template refuses it."""
        if self._template is None:
            raise BadRequest("the model has no chat template; ask with /v1/completions")
        return self._template.render(messages)


class HfTextStream:
    """The text of one answer while its tokens come. What a token adds depends on those before it (a space, the rest of a character),
    so the tokens since the last piece, and those of that piece, are decoded together."""

    __slots__ = ("_decode", "_ids", "_n_told", "_specials", "_told")

    def __init__(self, decode: Callable[[Sequence[int]], str], specials: frozenset[int], after: Sequence[int] = ()) -> None:
        self._decode = decode
        self._specials = specials
        self._ids = [token for token in after[-N_BEFORE:] if token not in specials]
        self._n_told = len(self._ids)
        self._told = decode(self._ids) if self._ids else ""

    def add(self, token: int) -> str:
        """The text that is complete by this token; "" while a character is not."""
        if token in self._specials:
            return ""
        self._ids.append(token)
        text = self._decode(self._ids)
        if text.endswith(UNFINISHED) and len(self._ids) - self._n_told < MOST_HELD:
            return ""
        return self._tell(text)

    def rest(self) -> str:
        """The answer has ended: what is held of a character that was never completed."""
        return self._tell(self._decode(self._ids)) if len(self._ids) > self._n_told else ""

    def _tell(self, text: str) -> str:
        """What `text`, of all tokens kept, has beyond what was told. The tokens told before are not needed any more."""
        if not text.startswith(self._told):  # bytes that were a character are none beside those that follow: they stay told
            self._ids = self._ids[self._n_told :]
            self._told, self._n_told = "", 0
            text = self._decode(self._ids)
        piece = text[len(self._told) :]
        if piece:
            self._ids = self._ids[self._n_told :]
            self._told, self._n_told = self._decode(self._ids), len(self._ids)
        return piece


class _Pieces:
    """The bytes of single tokens, as the tokenizer's decoder would put them together."""

    def __init__(self, loaded: tokenizers.Tokenizer, added: Mapping[int, str]) -> None:
        self._loaded = loaded
        self._added = added
        kinds = _decoder_kinds(json.loads(loaded.to_str()).get("decoder"))
        self._bytes_of = _bytes_of_letters() if "ByteLevel" in kinds else None
        self._has_byte_tokens = "ByteFallback" in kinds
        self._has_word_marks = bool(kinds & {"Metaspace", "Replace"})

    def of(self, token: int) -> bytes:
        added = self._added.get(token)
        if added is not None:
            return added.encode()
        text: str | None = self._loaded.id_to_token(token)
        if text is None:
            return b""
        if self._bytes_of is not None:
            return b"".join(self._bytes_of.get(letter, letter.encode()) for letter in text)
        if self._has_byte_tokens and len(text) == 6 and text.startswith("<0x") and text.endswith(">"):
            return bytes([int(text[3:5], 16)])
        return (text.replace(_WORD_MARK, " ") if self._has_word_marks else text).encode()


def _decoder_kinds(decoder: Mapping[str, Any] | None) -> set[str]:
    if decoder is None:
        return set()
    return {str(decoder["type"])}.union(*map(_decoder_kinds, decoder.get("decoders", ())))


def _bytes_of_letters() -> dict[str, bytes]:
    """Byte-level vocabularies write each byte as one printable letter: printable bytes of Latin-1 as themselves, the others in
    ascending order as the letters from 256 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    letters = {chr(byte): bytes([byte]) for byte in printable}
    return letters | {chr(256 + place): bytes([byte]) for place, byte in enumerate(others)}


class ChatTemplate:
    """A conversation → the prompt, by a template as chat models bring it along: it may loop, break, read the date, and refuse."""

    def __init__(self, source: str, specials: Mapping[str, str], calendar_ms: CalendarMs | None) -> None:
        """`specials`: texts of special tokens by the names that templates use. `calendar_ms`: since 1970; None: without a date.
        Raises LoadError for what is no template."""
        self._specials = dict(specials)
        self._calendar_ms = calendar_ms
        world = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", _MarkedAnswers]
        )
        world.filters["tojson"] = _to_json
        world.globals["raise_exception"] = _refuse
        world.globals["strftime_now"] = self._today
        try:
            self._template = world.from_string(source)
        except jinja2.TemplateSyntaxError as error:
            raise LoadError(f"the chat template cannot be read: line {error.lineno}: {error.message}") from None

    def render(self, messages: Sequence[Mapping[str, str]]) -> str:
        """Raises BadRequest when the template refuses the messages or cannot deal with them."""
        told = {**self._specials, "messages": messages, "add_generation_prompt": True, "tools": None, "documents": None}
        try:
            return self._template.render(told)
        except Exception as error:  # a template is a program: whatever it runs into is told
            raise BadRequest(f"the model's chat template does not take these messages: {error}") from None

    def _today(self, form: str) -> str:
        if self._calendar_ms is None:
            raise jinja2.TemplateError("it asks for the date, which is not known here")
        return datetime.fromtimestamp(self._calendar_ms() / 1000).strftime(form)


class _MarkedAnswers(Extension):
    """`{% generation %}`, by which training code finds the assistant's words; here it is just what stands in it."""

    tags = {"generation"}  # noqa: RUF012  # as the library declares it

    def parse(self, parser: Parser) -> list[Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _to_json(value: object, indent: int | None = None) -> str:
    """Not escaped for HTML, unlike the library's own filter of this name."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _refuse(why: str) -> NoReturn:
    raise jinja2.TemplateError(why)
