"""Raw texts → a model's input arrays; and what must hold before a version may take text. Shared with server.runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import NamedTuple

import numpy as np

from server.backends.base import NUMPY_TYPES, Array, BatchError, Session, TextError, Tokenizer, TokenizerLibrary
from server.backends.hf_tokenizers import HfTokenizers
from server.contract.manifest import Check, Ragged
from server.contract.tensors import TensorSpec
from server.contract.text import TextCost, TextInput
from server.intake.errors import IntakeError
from server.intake.timer import now

INPUT = "text"
BYTES_PER_TOKEN = 32
"""A text may have so many bytes for each token that fits. Words have some 5; runs of blanks and the like have more."""

KNOWN_NAMES = {"ids": "input_ids", "mask": "attention_mask", "types": "token_type_ids"}
"""The names that exporters of transformers give the inputs."""

_SPECIMEN = (
    "Requests that arrive together share a batch, so that each costs less; none waits longer than its objective allows. "
)
_N_RUNS = 15


class Read(NamedTuple):
    """One text as the model takes it: arrays [1, n_tokens] by input name."""

    inputs: Mapping[str, Array]
    n_tokens: int


@dataclass(frozen=True, slots=True)
class TextWish:
    """How a version is to take text. `names`: the inputs that ids, mask and types go into (empty: by KNOWN_NAMES).
    `embedding`: the output that is an embedding. `texts`: real ones, to measure with (empty: made up)."""

    names: Mapping[str, str]
    embedding: str | None = None
    texts: Sequence[str] = ()
    library: TokenizerLibrary = field(default_factory=HfTokenizers)


class TextReader:
    """Tokenises for one version. `read` may be called from one thread at a time."""

    def __init__(self, tokenizer: Tokenizer, text: TextInput, inputs: Sequence[TensorSpec], ragged: Ragged) -> None:
        self._tokenizer = tokenizer
        self._text = text
        self._dtypes = {spec.name: NUMPY_TYPES[spec.datatype.value] for spec in inputs}
        self._ragged = ragged
        self.largest_id = tokenizer.largest_id

    def read(self, texts: Sequence[str], truncate: Sequence[bool]) -> list[Read | TextError]:
        """One outcome for each text, in order. One that has too many tokens is an error unless its `truncate` is true."""
        found = self._tokenizer.encode(texts)
        outcomes: list[Read | TextError] = []
        for tokens, may_cut in zip(found, truncate, strict=True):
            if isinstance(tokens, TextError):
                outcomes.append(tokens)
            elif tokens.n_dropped and not may_cut:
                outcomes.append(self._wrong_length(len(tokens.ids) + tokens.n_dropped))
            else:
                outcomes.append(self._fill(tokens.ids, tokens.mask, tokens.types))
        return outcomes

    def fill(self, ids: Sequence[int]) -> Read | TextError:
        """Ids that somebody else's tokenizer made: all of them count, and all are of the first segment."""
        if not all(0 <= token <= self.largest_id for token in ids):
            return TextError(f"a token id is outside the model's vocabulary of 0 to {self.largest_id}")
        return self._fill(ids, [1] * len(ids), [0] * len(ids))

    def _fill(self, ids: Sequence[int], mask: Sequence[int], types: Sequence[int]) -> Read | TextError:
        if not self._ragged.shortest <= len(ids) <= self._ragged.longest:
            return self._wrong_length(len(ids))
        text = self._text
        values = ((text.ids, ids), (text.mask, mask), (text.types, types))
        arrays = {name: np.array([items], dtype=self._dtypes[name]) for name, items in values if name is not None}
        return Read(arrays, len(ids))

    def _wrong_length(self, n_tokens: int) -> TextError:
        shortest, longest = self._ragged.shortest, self._ragged.longest
        remedy = "shorten it, or set 'truncate' to true to have it cut" if n_tokens > longest else "send a longer one"
        return TextError(f"the text has {n_tokens} tokens, {shortest} to {longest} are possible; {remedy}")


def describe_text(wish: TextWish, file: str, inputs: Sequence[TensorSpec], ragged: Ragged | None) -> TextInput:
    """The manifest's text section. Raises IntakeError when the model has no inputs that tokens could fill."""
    names = {spec.name for spec in inputs}
    filled = dict(wish.names) or {role: name for role, name in KNOWN_NAMES.items() if name in names}
    if "ids" not in filled or ragged is None:
        raise IntakeError(
            f"a tokenizer is given, but the inputs are {', '.join(sorted(names))}: there must be one for token ids with a free axis, "
            f"called {KNOWN_NAMES['ids']!r} or named as such"
        )
    return TextInput(
        INPUT, file, filled["ids"], filled.get("mask"), filled.get("types"), BYTES_PER_TOKEN * ragged.longest, wish.embedding
    )


def check_vocabulary(session: Session, reader: TextReader, ragged: Ragged) -> Check:
    """The tokenizer's largest id is one that the model accepts, alone and at any place. Raises IntakeError."""
    found = reader.fill([reader.largest_id] * ragged.shortest)
    assert isinstance(found, Read), "the shortest length is possible"
    try:
        outputs = session.run(found.inputs)
    except BatchError as error:
        raise IntakeError(
            f"the tokenizer makes ids up to {reader.largest_id}, which the model refuses ({error}): it is another model's tokenizer"
        ) from None
    if any(array.dtype.kind == "f" and np.isnan(array).any() for array in outputs):
        raise IntakeError(f"the model answers NaN to token id {reader.largest_id}: it is another model's tokenizer")
    return Check("vocabulary", True, f"token ids up to {reader.largest_id} are in the model's vocabulary")


def measure_text(tokenizer: Tokenizer, longest: int, texts: Sequence[str]) -> TextCost:
    """Medians over texts of 16 bytes to about `longest` tokens, one at a time, and the straight line closest to them."""
    corpus = " ".join(texts) or _SPECIMEN
    sizes = [size for n in range(4, 31) if (size := 1 << n) <= 4 * longest] or [16]
    corpus = corpus * (sizes[-1] // len(corpus) + 1)
    points: list[tuple[int, float, int]] = []
    for size in sizes:
        text = corpus[:size]
        seconds = [_time_one(tokenizer, text) for _ in range(_N_RUNS)]
        points.append((len(text.encode()), median(spent for spent, _ in seconds), seconds[0][1]))
    return _line(points)


def _time_one(tokenizer: Tokenizer, text: str) -> tuple[float, int]:
    began_at = now()
    (found,) = tokenizer.encode([text])
    took_s = now() - began_at
    if isinstance(found, TextError):
        raise IntakeError(f"the tokenizer fails on {text[:40]!r}: {found}")
    return took_s, len(found.ids) + found.n_dropped


def _line(points: Sequence[tuple[int, float, int]]) -> TextCost:
    """(bytes, seconds, tokens) of each text → the least-squares line, with neither cost below zero."""
    sizes, seconds, tokens = (np.array(column, dtype=np.float64) for column in zip(*points, strict=True))
    spread = float(((sizes - sizes.mean()) ** 2).sum())
    slope = float(((sizes - sizes.mean()) * (seconds - seconds.mean())).sum()) / spread if spread else 0.0
    byte_s = max(0.0, slope)
    text_s = max(1e-9, float((seconds - byte_s * sizes).mean()))
    return TextCost(text_s, byte_s, float(seconds.sum() / max(1.0, tokens.sum())), _N_RUNS * len(points))
