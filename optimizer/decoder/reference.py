"""What the original model says: texts as token ids, and its logits at each position, by transformers. Needs torch."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from optimizer.decoder.checkpoint import Checkpoint
from optimizer.errors import SourceError
from optimizer.quiet import quiet, tool
from optimizer.stages.base import Result
from server.backends.base import Array
from server.intake.measure import Progress

if TYPE_CHECKING:
    import torch

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
    """`text`: a file to compare on; None: what the model itself writes, each token drawn as it thinks likely."""

    checkpoint: Checkpoint
    text: Path | None

    def __call__(self, out: Path, progress: Progress) -> Result:
        """Writes IDS and LOGITS. Raises SourceError for a text that cannot be used, StageFailed when transformers fails."""
        progress("loading the original", 0, 3)
        with tool("transformers cannot load the checkpoint"):
            model = _load(self.checkpoint.folder)
        progress("choosing texts", 1, 3)
        n_texts, n_tokens = self.size()
        if self.text is not None:
            ids = _read(self.checkpoint, self.text, n_texts, n_tokens)
        else:
            with tool("the original cannot generate"):
                ids = _written(model, self.checkpoint, n_texts, n_tokens)
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


def _written(model: Any, checkpoint: Checkpoint, n_texts: int, n_tokens: int) -> Array:
    """Drawn token by token at temperature 1, from the beginning of a text, or from random tokens."""
    import torch

    torch.manual_seed(_SEED)
    if checkpoint.begins is None:
        begin = torch.randint(0, checkpoint.generation.vocabulary, (n_texts, 1))
    else:
        begin = torch.full((n_texts, 1), checkpoint.begins)
    with torch.no_grad():
        found: torch.Tensor = model.generate(
            begin, attention_mask=torch.ones_like(begin), max_new_tokens=n_tokens - 1, min_new_tokens=n_tokens - 1, do_sample=True,
            temperature=1.0, top_k=0, top_p=1.0, eos_token_id=None, pad_token_id=0,
        )  # fmt: skip
    ids: Array = found.numpy()
    return ids


def _logits(model: Any, ids: Array) -> Array:
    """One text at a time: all at once would not fit with a large vocabulary."""
    import torch

    with torch.no_grad(), quiet(io.StringIO()):
        rows = [model(input_ids=torch.from_numpy(text)[None], use_cache=False).logits[0].float().numpy() for text in ids]
    return np.stack(rows)
