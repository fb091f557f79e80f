"""How one sample's answer in one output compares with the original's: cosine, errors, divergence, top class. Pure numpy.

Nothing is averaged or judged here: see agreement.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from server.backends.base import Array

_LEAST_PROBABILITY = 1e-12
_SUMS_TO_ONE = 1e-3
_TIE = 1e-6
_MOST = float(np.finfo(np.float64).max)


class Flaw(Enum):
    """Why an answer cannot be compared by numbers."""

    SHAPE = "has another shape or type"
    NOT_FINITE = "is not finite where the original is"


@dataclass(frozen=True, slots=True)
class Figures:
    """One sample in one output. None: the figure has no meaning for this output, or the answer is flawed.

    `absolute`: largest |found - wanted|. `relative`: that, as a share of the original's largest magnitude in this sample (of 1 where
    that is zero); no cosine of one number, which would be its sign. `kl`: mean over positions of KL(original ‖ found) in nats. `same_top1`: share of positions with the same greatest
    class, `top1` that class of the original where there is one position. `equal`: whether the two are the same, bit for bit, as 0 or
    1. Elements at which the original is not finite are not compared.
    """

    flaw: Flaw | None = None
    cosine: float | None = None
    absolute: float | None = None
    relative: float | None = None
    kl: float | None = None
    same_top1: float | None = None
    top1: int | None = None
    equal: float = 0.0


def compare_answers(wanted: Array, found: Array, length: int) -> Figures:
    """Two arrays [1, …]; `length`: the sample's size of the ragged axis, 0 without one."""
    if wanted.shape != found.shape or wanted.dtype != found.dtype:
        return Figures(Flaw.SHAPE)
    equal = float(np.array_equal(wanted, found, equal_nan=wanted.dtype.kind == "f"))
    if wanted.dtype.kind in "iu":
        gap = np.abs(wanted.astype(np.float64) - found.astype(np.float64))
        return Figures(absolute=float(np.max(gap, initial=0.0)), equal=equal)
    if wanted.dtype.kind != "f":
        return Figures(equal=equal)
    return _compare_floats(wanted.astype(np.float64), found.astype(np.float64), length, equal)


def same_neighbour(wanted: Array, found: Array) -> Array:
    """For vectors [n, size], n ≥ 3: at which of them the nearest other one, by cosine, is the same → bool [n].

    Of neighbours that the original holds equally near, any is right.
    """
    original, other = _similarities(wanted), _similarities(found)
    best = original.max(axis=1)
    picked = original[np.arange(len(original)), other.argmax(axis=1)]
    same: Array = picked >= best - _TIE
    return same


def is_normalised(vectors: Array) -> bool:
    """Whether all of [n, size] have length 1, as sentence embeddings do and probabilities do not."""
    with np.errstate(over="ignore"):
        norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
    return bool(np.all(np.abs(norms - 1) < _SUMS_TO_ONE)) and not _are_probabilities(vectors)


def _compare_floats(wanted: Array, found: Array, length: int, equal: float) -> Figures:
    known = np.isfinite(wanted)
    positions = _positions(wanted, length)
    scores = None if positions is None else _masked(positions, known, wanted)
    top1 = int(scores.argmax()) if scores is not None and len(scores) == 1 and known.any() else None
    if not np.isfinite(found[known]).all():
        return Figures(Flaw.NOT_FINITE, top1=top1)
    a, b = wanted[known], found[known]
    with np.errstate(over="ignore"):
        gap = min(float(np.max(np.abs(a - b), initial=0.0)), _MOST)
    relative = min(gap / (float(np.max(np.abs(a), initial=0.0)) or 1.0), _MOST)
    kl = same = None
    if positions is not None and scores is not None and known.any():
        usable = np.isfinite(scores).any(axis=1)
        others = _masked(positions, known, found)[usable]
        kl, same = _divergence(scores[usable], others), _same_top(scores[usable], others)
    cosine = _cosine(a, b) if wanted.size > 1 else None
    return Figures(None, cosine, gap, relative, kl, same, top1, equal)


def _positions(array: Array, length: int) -> tuple[int, int] | None:
    """(positions, classes) of what looks like logits: [1, classes ≥ 2], or for each token [1, length, classes ≥ 2]."""
    if array.ndim == 2 and array.shape[1] >= 2:
        return 1, array.shape[1]
    if array.ndim == 3 and length > 0 and array.shape[1] == length and array.shape[2] >= 2:
        return length, array.shape[2]
    return None


def _masked(shape: tuple[int, int], known: Array, array: Array) -> Array:
    """Classes that the original gives no finite score are impossible in both."""
    return np.where(known, array, -np.inf).reshape(shape)


def _cosine(a: Array, b: Array) -> float:
    """Of two vectors; 1 when both are zero, 0 when one is. Scaled first, so that squares do not overflow."""
    sizes = [float(np.max(np.abs(vector), initial=0.0)) for vector in (a, b)]
    if 0.0 in sizes:
        return float(sizes[0] == sizes[1])
    a, b = a / sizes[0], b / sizes[1]
    return float(np.clip(a @ b / np.sqrt((a @ a) * (b @ b)), -1.0, 1.0))


def _divergence(scores: Array, others: Array) -> float:
    """Mean over positions of KL(softmax(scores) ‖ softmax(others)) in nats; of probabilities without the softmax."""
    if _are_probabilities(scores):
        log_p, log_q = (np.log(np.clip(_shares(values), _LEAST_PROBABILITY, None)) for values in (scores, others))
    else:
        log_p, log_q = _log_softmax(scores), _log_softmax(others)
    p = np.exp(log_p)
    with np.errstate(invalid="ignore"):  # -inf - -inf at impossible classes, which count nothing
        terms = np.where(p > 0, p * (log_p - log_q), 0.0)
    return float(np.clip(np.mean(terms.sum(axis=1)), 0.0, _MOST))


def _log_softmax(scores: Array) -> Array:
    with np.errstate(over="ignore"):  # -inf is right for what is so much less likely
        shifted = scores - scores.max(axis=1, keepdims=True)
    logs: Array = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return logs


def _are_probabilities(scores: Array) -> bool:
    return bool((scores >= 0).all()) and bool(np.all(np.abs(scores.sum(axis=1) - 1) < _SUMS_TO_ONE))


def _shares(values: Array) -> Array:
    """Not negative, and of sum 1: a candidate's probabilities may be neither."""
    positive = np.clip(np.where(np.isfinite(values), values, 0.0), _LEAST_PROBABILITY, None)
    shares: Array = positive / positive.sum(axis=1, keepdims=True)
    return shares


def _same_top(scores: Array, others: Array) -> float:
    """Where the original has several greatest classes, any of them is right."""
    picked = scores[np.arange(len(scores)), others.argmax(axis=1)]
    return float(np.mean(picked == scores.max(axis=1)))


def _similarities(vectors: Array) -> Array:
    """Cosines [n, n] between vectors, with each one's to itself out of the way."""
    vectors = vectors.astype(np.float64)
    sizes = np.max(np.abs(vectors), axis=1, keepdims=True)
    scaled = vectors / np.where(sizes == 0, 1.0, sizes)
    norms = np.linalg.norm(scaled, axis=1, keepdims=True)
    unit = scaled / np.where(norms == 0, 1.0, norms)
    cosines: Array = unit @ unit.T
    np.fill_diagonal(cosines, -np.inf)
    return cosines
