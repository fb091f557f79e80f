"""The work that every generator is given: prompts as token ids, and how many tokens each answer has. Drawn once, from a seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

PROMPT, MEAN_ANSWER, LONGEST_ANSWER, VOCABULARY = 32, 64.0, 256, 8192
"""In tokens; of the usual work."""

FIRST_PLAIN_ID = 8
"""Ids below are special ones in the checkpoint that is made for this (`peers/generators/checkpoint.py`)."""


@dataclass(frozen=True, slots=True)
class Work:
    """Prompts and the exact number of tokens of each answer, in the order in which they are asked for."""

    prompts: Sequence[Sequence[int]]
    new_tokens: Sequence[int]

    @property
    def n_tokens(self) -> int:
        """Tokens of all answers together."""
        return sum(self.new_tokens)

    def ceiling(self, slots: int) -> float:
        """Rows that static batches compute ÷ rows that are needed: more than that nobody can gain by filling slots as they come free.
        Of batches in order, each of which takes as many steps as its longest answer."""
        waves = [self.new_tokens[at : at + slots] for at in range(0, len(self.new_tokens), slots)]
        return slots * sum(max(wave) for wave in waves) / self.n_tokens


def draw(n: int, prompt: int, mean: float, most: int, vocabulary: int, seed: int) -> Work:
    """`n` prompts of `prompt` tokens, answers of geometrically distributed length with this mean, of at most `most` tokens."""
    rng = np.random.default_rng(seed)
    prompts = rng.integers(FIRST_PLAIN_ID, vocabulary, (n, prompt)).tolist()
    lengths = np.minimum(rng.geometric(1 / mean, n), most).tolist()
    return Work(prompts, lengths)


def usual(n: int, seed: int, prompt: int = PROMPT) -> Work:
    """As nearly every scene has it."""
    return draw(n, prompt, MEAN_ANSWER, LONGEST_ANSWER, VOCABULARY, seed)
