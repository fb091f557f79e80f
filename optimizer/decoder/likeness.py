"""How well a decoder's predictions agree with the original model's: figures from two sets of logits. Agreement, not accuracy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from server.backends.base import Array

_MOST_NATS = 700.0


@dataclass(frozen=True, slots=True)
class Likeness:
    """Over `n_tokens` positions: `kl`, mean of the Kullback-Leibler divergence of its prediction from the original's, in nats, and
    `worst_kl`, the largest; `top1`, the share with the same likeliest token; `perplexity` of the texts, and `original` the original's;
    `error`, the largest difference of a logit."""

    n_tokens: int
    kl: float
    worst_kl: float
    top1: float
    perplexity: float
    original: float
    error: float

    @property
    def rise(self) -> float:
        """How much larger its perplexity is, as a share of the original's."""
        return self.perplexity / self.original - 1

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Likeness:
        """What to_json made."""
        return Likeness(**data)

    def sentence(self) -> str:
        """For people."""
        return (
            f"perplexity {self.perplexity:.3f}, the original's {self.original:.3f}; the same likeliest token in {self.top1:.2%} of "
            f"{self.n_tokens} places; KL {self.kl:.2g} nats, worst {self.worst_kl:.2g} (agreement with the original, not accuracy)"
        )


def compare(mine: Array, theirs: Array, following: Array) -> Likeness:
    """`mine`, `theirs`: float32 [positions, vocabulary]; `following`: int64 [positions], the tokens that came next."""
    ours, wanted = _log_softmax(mine), _log_softmax(theirs)
    divergences = (np.exp(wanted) * (wanted - ours)).sum(axis=1)
    places = np.arange(len(following))
    return Likeness(
        n_tokens=len(following),
        kl=_nats(divergences.mean()),
        worst_kl=_nats(divergences.max()),
        top1=float((mine.argmax(axis=1) == theirs.argmax(axis=1)).mean()),
        perplexity=_perplexity(ours[places, following]),
        original=_perplexity(wanted[places, following]),
        error=float(np.abs(mine - theirs).max()),
    )


def _nats(divergence: float) -> float:
    """What is no number, for one of the two has none, is past all bounds: it must not pass for alike."""
    return max(0.0, float(divergence)) if np.isfinite(divergence) else _MOST_NATS


def _perplexity(chosen: Array) -> float:
    """Of log probabilities. What is past all bounds stays a number, so that it can be written down."""
    return math.exp(min(_MOST_NATS, -float(chosen.mean())))


def _log_softmax(logits: Array) -> Array:
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    logged: Array = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return logged
