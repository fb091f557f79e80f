"""Asks a decoder graph what the original was asked, through the backend that serves, and whether rows depend on their company."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from optimizer.decoder.likeness import compare
from optimizer.decoder.loading import load
from optimizer.decoder.reference import IDS, LOGITS
from optimizer.errors import StageFailed
from optimizer.ladder.limits import peak_resident_bytes
from optimizer.stages.base import Result
from server.backends.base import Array, BatchError
from server.backends.decoding import Decoder, DecoderBackend, Row
from server.contract.generation import Generation
from server.intake.measure import Progress

CHUNK = 64
"""Prompts are cut at multiples of so many tokens: then no bit of an answer depends on where."""

_N_TOGETHER = 8
"""Tokens that are decoded alone and in company."""


@dataclass(frozen=True, slots=True)
class JudgeTask:
    """`folder`: the decoder's; `reference`: ReferenceTask's."""

    folder: Path
    reference: Path
    backend: DecoderBackend
    generation: Generation
    threads: int

    def __call__(self, out: Path, progress: Progress) -> Result:
        """Raises StageFailed when it does not load, or fails."""
        ids, wanted = np.load(self.reference / IDS), np.load(self.reference / LOGITS)
        progress("loading", 0, 3)
        with closing(load(self.backend, self.folder, self.generation, max(2, len(ids)), self.threads)) as decoder:
            try:
                progress("comparing with the original", 1, 3)
                likeness = self._likeness(decoder, ids, wanted)
                progress("comparing rows alone and in company", 2, 3)
                company = company_error(decoder, _prompts(ids))
            except BatchError as error:
                raise StageFailed(f"fails on a text that the original takes: {error}") from None
        data = {"likeness": likeness, "company": company, "memory_bytes": peak_resident_bytes()}
        return Result("compared with the original", None, data)

    def _likeness(self, decoder: Decoder, ids: Array, wanted: Array) -> dict[str, float]:
        """A part of each text is read as a prompt, the rest decoded, all texts together."""
        n_texts, n_tokens = ids.shape
        n_prompt = min(CHUNK, n_tokens // 2)
        found = [decoder.prefill(range(n_texts), list(ids[:, :n_prompt]), 0).copy()]
        for place in range(n_prompt, n_tokens - 1):
            rows = [Row(slot, int(ids[slot, place]), place) for slot in range(n_texts)]
            found.append(decoder.decode(rows).copy())
        mine = np.stack(found, axis=1)
        if not np.isfinite(mine).all():
            raise StageFailed("its logits are not all finite, where the original's are")
        theirs, following = wanted[:, n_prompt - 1 : -1], ids[:, n_prompt:]
        vocabulary = mine.shape[-1]
        return compare(mine.reshape(-1, vocabulary), theirs.reshape(-1, vocabulary), following.reshape(-1)).to_json()


def company_error(decoder: Decoder, prompts: Sequence[Array]) -> float:
    """The largest difference of a logit between prompts read together, and decoded together, and each of them alone, its prompt cut
    at multiples of CHUNK; 0: not a bit differs. Raises BatchError."""
    together = [decoder.prefill(range(len(prompts)), prompts, 0).copy()]
    for step in range(_N_TOGETHER):
        tokens = together[-1].argmax(axis=1)
        together.append(
            decoder.decode([Row(slot, int(tokens[slot]), len(prompt) + step) for slot, prompt in enumerate(prompts)]).copy()
        )
    worst = 0.0
    for slot, prompt in enumerate(prompts):
        logits = together[0][:0]
        for start in range(0, len(prompt), CHUNK):
            logits = decoder.prefill([0], [prompt[start : start + CHUNK]], start)
        worst = max(worst, _apart(logits[0], together[0][slot]))
        for step in range(_N_TOGETHER):
            row = Row(0, int(together[step][slot].argmax()), len(prompt) + step)
            worst = max(worst, _apart(decoder.decode([row])[0], together[step + 1][slot]))
    return worst


def _apart(one: Array, other: Array) -> float:
    """What is no number is as far away as can be, from itself too."""
    return float(np.nan_to_num(np.abs(one - other), nan=np.inf).max())


def _prompts(ids: Array) -> list[Array]:
    """Beginnings of the texts, of different lengths: long, short, a single token, and such as end between and at CHUNK."""
    n_most = ids.shape[1] - _N_TOGETHER
    lengths = (n_most, 1, CHUNK, n_most // 2, n_most // 3, 7)
    texts = [ids[number % len(ids)] for number in range(min(len(lengths), max(2, len(ids))))]
    return [text[: max(1, min(n, n_most))] for text, n in zip(texts, lengths, strict=False)]
