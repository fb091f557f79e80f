"""The `tokenizers` library: tokenizer.json files, special tokens and post-processing included.

The library is an extra; it is imported when the first tokenizer is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from server.backends.base import LoadError, TextError, Tokenizer, Tokens
from server.contract.generation import Generation

if TYPE_CHECKING:
    import tokenizers

    from server.backends.hf_text_codec import CalendarMs, HfTextCodec

EXTRA = "text"


class HfTokenizers:
    """Loads what `Tokenizer.save` of the library writes."""

    def __init__(self, calendar_ms: CalendarMs | None = None) -> None:
        """`calendar_ms`: milliseconds since 1970, for chat templates that name the date; None: such templates refuse."""
        self._calendar_ms = calendar_ms

    def load(self, file: Path, longest: int) -> Tokenizer:
        """Padding and truncation that the file asks for are replaced: batches are padded by who forms them. Raises LoadError."""
        loaded = _open(file)
        try:
            n_special: int = loaded.num_special_tokens_to_add(is_pair=False)
            direction = (loaded.truncation or {}).get("direction", "right")
            loaded.no_padding()
            loaded.enable_truncation(max(longest, n_special + 1), direction=direction)
        except Exception as error:  # the library raises plain Exceptions for whatever is wrong with a file
            raise _no_tokenizer(file, error) from None
        return _HfTokenizer(loaded, n_special)

    def codec(self, folder: Path, generation: Generation) -> HfTextCodec:
        """Of a version that generates, from its folder. Raises LoadError."""
        from server.backends.hf_text_codec import ChatTemplate, HfTextCodec

        loaded = _open(folder / generation.tokenizer)
        largest = max(loaded.get_vocab(with_added_tokens=True).values(), default=0)
        if largest >= generation.vocabulary:
            raise LoadError(
                f"{generation.tokenizer} makes ids up to {largest}, the model knows those below {generation.vocabulary}; "
                "publish the version again, with its own tokenizer"
            )
        template = None
        if generation.template is not None:
            try:
                source = (folder / generation.template).read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise LoadError(f"{generation.template} cannot be read: {error}") from None
            template = ChatTemplate(source, generation.specials, self._calendar_ms)
        return HfTextCodec(loaded, template)


def _open(file: Path) -> tokenizers.Tokenizer:
    try:
        import tokenizers
    except ImportError:
        raise LoadError(
            f"{file.name} needs the library tokenizers, which is not installed: pip install 'ferry-serving[{EXTRA}]'"
        ) from None
    try:
        return tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises plain Exceptions for whatever is wrong with a file
        raise _no_tokenizer(file, error) from None


def _no_tokenizer(file: Path, error: Exception) -> LoadError:
    return LoadError(f"{file.name} is not a tokenizer of the tokenizers library: {_reason(error)}")


class _HfTokenizer:
    def __init__(self, loaded: tokenizers.Tokenizer, n_special: int) -> None:
        self._loaded = loaded
        self._n_special = n_special
        self.largest_id = max(loaded.get_vocab(with_added_tokens=True).values(), default=0)

    def encode(self, texts: Sequence[str]) -> list[Tokens | TextError]:
        """One call for all; if it fails, one for each, so that only the culprit is told."""
        try:
            found = self._loaded.encode_batch_fast(list(texts))
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a panic of the library, which is written in Rust, is not an Exception
            if len(texts) == 1:
                return [TextError(_reason(error))]
            return [outcome for text in texts for outcome in self.encode([text])]
        return [self._tokens(encoding) for encoding in found]

    def _tokens(self, encoding: tokenizers.Encoding) -> Tokens:
        n_dropped = sum(len(rest) - self._n_special for rest in encoding.overflowing)
        return Tokens(encoding.ids, encoding.attention_mask, encoding.type_ids, n_dropped)


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
