"""The `tokenizers` library: tokenizer.json files, special tokens and post-processing included.

The library is an extra; it is imported when the first tokenizer is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from server.backends.base import LoadError, TextError, Tokenizer, Tokens

if TYPE_CHECKING:
    import tokenizers

EXTRA = "text"


class HfTokenizers:
    """Loads what `Tokenizer.save` of the library writes."""

    def load(self, file: Path, longest: int) -> Tokenizer:
        """Padding and truncation that the file asks for are replaced: batches are padded by who forms them. Raises LoadError."""
        try:
            import tokenizers
        except ImportError:
            raise LoadError(
                f"{file.name} needs the library tokenizers, which is not installed: pip install 'ferry-serving[{EXTRA}]'"
            ) from None
        try:
            loaded = tokenizers.Tokenizer.from_file(str(file))
            n_special: int = loaded.num_special_tokens_to_add(is_pair=False)
            direction = (loaded.truncation or {}).get("direction", "right")
            loaded.no_padding()
            loaded.enable_truncation(max(longest, n_special + 1), direction=direction)
        except Exception as error:  # the library raises plain Exceptions for whatever is wrong with a file
            raise LoadError(f"{file.name} is not a tokenizer of the tokenizers library: {_reason(error)}") from None
        return _HfTokenizer(loaded, n_special)


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
