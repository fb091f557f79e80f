"""What the original model says: texts as token ids, and its logits at each position, by transformers. Needs torch.

Where no text is given, the exported decoder writes some, which takes it a fraction of the time.
"""

from __future__ import annotations

import io
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from optimizer.decoder.checkpoint import Checkpoint
from optimizer.decoder.loading import load
from optimizer.errors import SourceError, StageFailed
from optimizer.quiet import quiet, tool
from optimizer.stages.base import Result
from server.backends.base import Array, BatchError
from server.backends.decoding import DecoderBackend, Row
from server.intake.measure import Progress

DISTRIBUTIONS = ("torch", "transformers", "tokenizers", "numpy")
"""What decides the result."""

IDS, LOGITS = "ids.npy", "logits.npy"
"""int64 [texts, tokens]; float32 [texts, tokens, vocabulary]: what comes after each token."""

N_TOKENS, N_TEXTS = 256, 16
_MOST_VALUES = 1 << 25
"""Of all logits together: a large vocabulary gets fewer positions."""

_LEAST_TOKENS = 16
_SEED = 0


@dataclass(frozen=True, slots=True)
class ReferenceTask:
    """`text`: a file to compare on; None: what the decoder in the folder `exported` writes, each token drawn as it thinks likely."""

    checkpoint: Checkpoint
    text: Path | None
    exported: Path
    backend: DecoderBackend
    threads: int

    def __call__(self, out: Path, progress: Progress) -> Result:
        """Writes IDS and LOGITS. Raises SourceError for a text that cannot be used, StageFailed when transformers fails."""
        progress("choosing texts", 0, 3)
        n_texts, n_tokens = self.size()
        ids = self._written(n_texts, n_tokens) if self.text is None else _read(self.checkpoint, self.text, n_texts, n_tokens)
        progress("loading the original", 1, 3)
        with tool("transformers cannot load the checkpoint"):
            model = _load(self.checkpoint.folder)
        progress("asking the original", 2, 3)
        with tool("the original cannot answer"):
            logits = _logits(model, ids)
        np.save(out / IDS, ids)
        np.save(out / LOGITS, logits)
        source = "what the model itself writes" if self.text is None else self.text.name
        return Result(f"{ids.shape[0]} texts of {ids.shape[1]} tokens, from {source}", None, {"source": source})

    def size(self) -> tuple[int, int]:
        """How many texts, and tokens of each."""
        generation = self.checkpoint.generation
        n_positions = max(_LEAST_TOKENS, _MOST_VALUES // generation.vocabulary)
        n_tokens = min(N_TOKENS, generation.longest, n_positions)
        return max(1, min(N_TEXTS, n_positions // n_tokens)), n_tokens

    def _written(self, n_texts: int, n_tokens: int) -> Array:
        """Drawn token by token at temperature 1 (the largest of logits plus Gumbel noise), from the beginning of a text, or from random
        tokens."""
        generation = self.checkpoint.generation
        generator = np.random.default_rng(_SEED)
        ids = np.zeros((n_texts, n_tokens), np.int64)
        begins = self.checkpoint.begins
        ids[:, 0] = generator.integers(0, generation.vocabulary, n_texts) if begins is None else begins
        with closing(load(self.backend, self.exported, generation, n_texts, self.threads)) as decoder:
            try:
                logits = decoder.prefill(range(n_texts), list(ids[:, :1]), 0)
                for place in range(1, n_tokens):
                    ids[:, place] = (logits + generator.gumbel(size=logits.shape)).argmax(axis=1)
                    logits = decoder.decode([Row(slot, int(ids[slot, place]), place) for slot in range(n_texts)])
            except BatchError as error:
                raise StageFailed(f"the exported decoder fails: {error}") from None
        return ids


def _load(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype="float32", local_files_only=True)
    model.eval()
    return model


def _read(checkpoint: Checkpoint, file: Path, n_texts: int, n_tokens: int) -> Array:
    """Windows of the file, evenly spread; each begins as texts of this model do."""
    from tokenizers import Tokenizer

    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{file}: cannot be read as UTF-8 text ({error})") from None
    ids = Tokenizer.from_file(str(checkpoint.tokenizer)).encode(text, add_special_tokens=False).ids
    begin = [] if checkpoint.begins is None else [checkpoint.begins]
    n_own = n_tokens - len(begin)
    n_windows = min(n_texts, len(ids) // n_own)
    if not n_windows:
        raise SourceError(f"{file}: has {len(ids)} tokens; to compare on it, at least {n_own} are needed")
    starts = np.linspace(0, len(ids) - n_own, n_windows).astype(int)
    return np.array([begin + ids[start : start + n_own] for start in starts], np.int64)


def _logits(model: Any, ids: Array) -> Array:
    """One text at a time: all at once would not fit with a large vocabulary."""
    import torch

    with torch.no_grad(), quiet(io.StringIO()):
        rows = [model(input_ids=torch.from_numpy(text)[None], use_cache=False).logits[0].float().numpy() for text in ids]
    return np.stack(rows)
