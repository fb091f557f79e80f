"""The `llguidance` library: which tokens keep an answer to a JSON schema. Satisfies the protocols of `server.generation.grammars`.

The library is an extra; it is imported when the first model that generates is loaded. It needs neither torch nor transformers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from math import prod
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from server.backends.base import Array, BatchError
from server.contract.generation import Generation
from server.errors import BadRequest

if TYPE_CHECKING:
    import llguidance

EXTRA = "json"

LARGEST_MULTIPLE = 10_000
"""The product of a schema's `multipleOf`, without their decimal points: the library makes a state for each remainder, without a limit."""

_LARGEST_SCALED = 2**32 - 1
"""Of the same, times the largest of them, with all decimal points moved as far as the furthest: the library multiplies two before it divides, in
32 bits, and what does not fit into them becomes any number."""

_WHITESPACE = r"[ ]|\n[ \t]{0,32}"
"""Between the parts of a value: a space, or a line's indentation. Without a limit a model may go on with it for ever."""


_WRITABLE = "\n\t" + "".join(map(chr, range(0x20, 0x7F))) + "é中😀"


class Guidance:
    """Makes compilers for models whose tokenizer is one of the `tokenizers` library."""

    def compiler(self, tokenizer: Callable[[], str], generation: Generation) -> GuidanceCompiler | NoGuidance:
        """What the library knows of a vocabulary is made here: 8 MiB in 60 ms for 8,000 tokens, 100 MiB in a second for 128,000, through
        which nothing else of Python runs. `tokenizer`: gives the content of its tokenizer.json."""
        try:
            import llguidance
        except ImportError:
            return NoGuidance(
                f"answers are held to a schema by the library llguidance, which is not installed here: pip install 'ferry-serving[{EXTRA}]'"
            )
        if not generation.ends:
            return NoGuidance("the model has no token that ends answers, so none can be held to a schema")
        ends = list(generation.ends)
        try:
            plain = llguidance.LLTokenizer(tokenizer(), n_vocab=generation.vocabulary, eos_token=ends, slices=[])
            loaded = plain.with_slices(
                llguidance.LLTokenizer.json_slices()
            )  # by itself, for others wait as long as each of these takes
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a panic of the library, which is written in Rust, is not an Exception
            return NoGuidance(f"answers of this model cannot be held to a schema, for its tokenizer: {_in_one_line(error)}")
        lost = [letter for letter in _WRITABLE if loaded.decode_bytes(loaded.tokenize_str(letter)) != letter.encode()]
        if lost:  # the library asks for the tokens of what must come next, and would take none for all
            return NoGuidance(
                f"answers of this model cannot be held to a schema: its tokenizer has no tokens for {''.join(lost)!r}"
            )
        return GuidanceCompiler(loaded, ends)


class NoGuidance:
    """Stands for a compiler where there can be none, and says why."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def compile(self, schema: str) -> NoReturn:
        """Raises BadRequest."""
        raise BadRequest(self._reason)


class GuidanceCompiler:
    """Of one model."""

    def __init__(self, tokenizer: llguidance.LLTokenizer, ends: Sequence[int]) -> None:
        """`ends`: ids that end an answer."""
        self._tokenizer = tokenizer
        self._ends = ends

    def compile(self, schema: str) -> GuidanceGrammar:
        """Raises BadRequest for a schema that cannot be kept; one that nothing can satisfy is such a schema."""
        import llguidance

        _check_multiples(json.loads(schema))
        matcher = llguidance.LLMatcher(self._tokenizer, _grammar(schema), log_level=0, limits=_limits())
        reason = matcher.get_error() or _why_not_begun(matcher)
        if reason:
            raise _cannot_be_kept(reason)
        return GuidanceGrammar(matcher, self._ends)


def _why_not_begun(matcher: llguidance.LLMatcher) -> str:
    """A schema that leaves no first token, or too many ways to go on, shows it in the first masks; "" when it does not."""
    probe = matcher.deep_copy()
    probe.compute_bitmask()
    if not probe.is_error():
        probe.consume_tokens(probe.compute_ff_tokens())  # an object begins with its brace: then with any of its names
        probe.compute_bitmask()
    return probe.get_error()


class GuidanceGrammar:
    """A compiled schema: a state of the library's in which nothing has been said yet."""

    def __init__(self, fresh: llguidance.LLMatcher, ends: Sequence[int]) -> None:
        self._fresh = fresh
        self._ends = ends

    def guide(self) -> GuidanceGuide:
        """A copy shares nothing that changes: no answer depends on what others have said."""
        return GuidanceGuide(self._fresh.deep_copy(), self._ends)


class GuidanceGuide:
    """One answer."""

    def __init__(self, matcher: llguidance.LLMatcher, ends: Sequence[int]) -> None:
        self._matcher = matcher
        self._ends = ends

    def allowed(self) -> Array:
        """See Guide. BatchError: the schema has too many ways to go on from here, or the answer got a token that was not allowed."""
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        if self._matcher.is_error():
            raise BatchError(f"the schema leads nowhere: {_in_one_line(self._matcher.get_error())}; make it simpler")
        return bits if self._matcher.is_accepting() else self._without_ends(bits)

    def _without_ends(self, bits: Array) -> Array:
        """An id that ends answers may have a text of its own, which the library would allow as such."""
        cleared = bits.copy()
        for end in self._ends:
            cleared[end >> 3] &= ~np.uint8(1 << (end & 7))
        return cleared

    def accept(self, token: int) -> None:
        self._matcher.consume_token(token)  # one that it does not take makes it an error, of which the next step tells

    @property
    def is_whole(self) -> bool:
        return self._matcher.is_stopped() and not self._matcher.is_error()


def _grammar(schema: str) -> str:
    """In the library's own form, with all of its options said, so that no schema says otherwise (by its key `x-guidance`).
    Raises BadRequest."""
    import llguidance

    try:
        return llguidance.LLMatcher.grammar_from_json_schema(
            schema, overrides={
                "item_separator": ",", "key_separator": ":", "whitespace_flexible": True, "whitespace_pattern": _WHITESPACE,
                "coerce_one_of": False, "lenient": False,
            },
        )  # fmt: skip
    except ValueError as error:
        raise _cannot_be_kept(str(error)) from None


def _limits() -> llguidance.LLParserLimits:
    """A step of all waits for a mask: at most some milliseconds. Compiling is bounded by the size of the grammar, a state takes 1 to 2 KB."""
    import llguidance

    return llguidance.LLParserLimits(
        initial_lexer_fuel=1_000_000, step_lexer_fuel=100_000, step_max_items=50_000, max_lexer_states=20_000,
        max_grammar_size=100_000, verbose_errors=False,
    )  # fmt: skip


def _check_multiples(schema: object) -> None:
    """Raises BadRequest."""
    values = set(_multiples(schema))
    if any(value <= 0 for value in values):
        raise BadRequest("the schema has a 'multipleOf' that is not above 0; leave it out")
    digits = {_digits(value) for value in values}
    product = prod(digits)
    if product > LARGEST_MULTIPLE:
        raise BadRequest(
            f"the schema's 'multipleOf' make {product:,} remainders together; {LARGEST_MULTIPLE:,} are possible: leave it out"
        )
    if product * max(digits, default=1) * 10 ** max(map(_decimals, values), default=0) > _LARGEST_SCALED:
        raise BadRequest("the schema's 'multipleOf' have too many digits, or decimals, together; leave some out")


def _multiples(schema: object) -> Iterator[int | float]:
    """All values of `multipleOf`, wherever they stand."""
    parts = [schema]
    while parts:
        part = parts.pop()
        if isinstance(part, dict):
            value = part.get("multipleOf")
            if type(value) in (int, float):
                yield value  # type: ignore[misc]  # it is one of these
            parts.extend(part.values())
        elif isinstance(part, list):
            parts.extend(part)


def _digits(value: int | float) -> int:
    """0.25 → 25."""
    number = Decimal(repr(value)).normalize().as_tuple()
    exponent = number.exponent if isinstance(number.exponent, int) else 0
    return int("".join(map(str, number.digits)) + "0" * max(0, min(exponent, 20)))


def _decimals(value: int | float) -> int:
    """0.25 → 2."""
    exponent = Decimal(repr(value)).normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def _cannot_be_kept(reason: str) -> BadRequest:
    """In words that a client can act on; the library names options that it has not."""
    if "oneOf" in reason:
        reason = "'oneOf' is not supported; say 'anyOf' instead"
    elif reason.startswith("NoExtension"):
        reason = "no value satisfies it"
    return BadRequest(f"the schema cannot be kept: {_in_one_line(reason)}")


def _in_one_line(reason: object) -> str:
    return " ".join(str(reason).replace("<non-verbose/>", "").split()) or type(reason).__name__
