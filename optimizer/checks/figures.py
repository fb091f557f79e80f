"""How one row of an answer compares with the original's: cosine, noise, errors, divergence, top class. Pure numpy.

Nothing is averaged or judged here: see agreement.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

import numpy as np

from server.backends.base import Array

_LEAST_PROBABILITY = 1e-12
_SUMS_TO_ONE = 1e-3
_TIE = 1e-6
_MOST = float(np.finfo(np.float64).max)
_NEXT_TO_NOTHING = 1e-3
"""Of the usual size: an answer whose largest value is below that is zero for all that its readers can tell."""


class Flaw(Enum):
    """Why an answer cannot be compared by numbers."""

    SHAPE = "has another shape or type"
    NOT_FINITE = "is not finite where the original is"


@dataclass(frozen=True, slots=True)
class Likeness:
    """One row of one output beside the original's. Every row has a cosine, so that one bound suits all outputs:

    floats: the cosine of the two as vectors; of a row without direction (one value, or next to nothing beside the `usual` size of the
    output) 1 - r²/2, with r the error in units of that size, which is the cosine of a long vector whose parts are off by so much;
    all else: the share of the elements that are equal. `noise`: energy of the difference ÷ energy of the original's answer (of a row
    without direction r², of all else the share that differs). `absolute`: largest |found - wanted|, None for texts; `relative`: that,
    as a share of the original's largest magnitude in this row (without direction: of the usual size), None for all but floats.
    Elements at which the original is not finite are not compared. With a `flaw` there are no figures.
    """

    flaw: Flaw | None = None
    cosine: float = 0.0
    noise: float = 1.0
    absolute: float | None = None
    relative: float | None = None


@dataclass(frozen=True, slots=True)
class Classes:
    """What a classifier or decoder would say of one row. None: the output has no classes, or the answer is flawed.

    `kl`: mean over positions of KL(original ‖ found) in nats. `same_top1`: share of positions with the same greatest class, `top1`
    that class of the original where there is one position.
    """

    kl: float | None = None
    same_top1: float | None = None
    top1: int | None = None


def usual_size(arrays: Iterable[Array]) -> float:
    """Root mean square of all finite values; 0 where there are none, or no numbers."""
    energy, n_values = 0.0, 0
    for array in arrays:
        if array.dtype.kind in "fiub":
            values = array[np.isfinite(array)].astype(np.float64)
            with np.errstate(over="ignore"):
                energy += float(np.sum(values * values))
            n_values += values.size
    return min(float(np.sqrt(energy / n_values)), _MOST) if n_values else 0.0


def compare_row(wanted: Array, found: Array, usual: float) -> Likeness:
    """Two arrays [1, …]. `usual`: usual_size of the original's answers in this output; 0: not known, then rows without direction are
    those of zeros only."""
    if wanted.shape != found.shape or wanted.dtype != found.dtype:
        return Likeness(Flaw.SHAPE)
    if wanted.dtype.kind != "f":
        equal = float(np.mean(wanted == found)) if wanted.size else 1.0
        numbers = wanted.dtype.kind in "iu"
        gap = float(np.max(np.abs(wanted.astype(np.float64) - found.astype(np.float64)), initial=0.0)) if numbers else None
        return Likeness(None, equal, 1 - equal, gap)
    known = np.isfinite(wanted)
    a, b = wanted[known].astype(np.float64), found[known].astype(np.float64)
    if not np.isfinite(b).all():
        return Likeness(Flaw.NOT_FINITE)
    with np.errstate(over="ignore"):
        difference = np.clip(b - a, -_MOST, _MOST)
    gap, largest = (float(np.max(np.abs(values), initial=0.0)) for values in (difference, a))
    if usual > 0 and (wanted.size == 1 or largest < _NEXT_TO_NOTHING * usual):
        error = usual_size([difference]) / usual
        return Likeness(None, max(-1.0, 1 - error * error / 2), min(error * error, _MOST), gap, min(gap / usual, _MOST))
    cosine = _cosine(a, b) if wanted.size > 1 or largest == 0 else float(gap == 0)
    return Likeness(None, cosine, _noise(a, difference), gap, min(gap / (largest or 1.0), _MOST))


def compare_classes(wanted: Array, found: Array, length: int) -> Classes:
    """Two arrays [1, …] of floats; `length`: the row's size of the ragged axis, 0 without one. Found values that are not finite where
    the original's are leave the original's class only."""
    positions = _positions(wanted, length)
    known = np.isfinite(wanted)
    if positions is None or wanted.dtype.kind != "f" or not known.any():
        return Classes()
    scores = _masked(positions, known, wanted.astype(np.float64))
    top1 = int(scores.argmax()) if len(scores) == 1 else None
    if wanted.shape != found.shape or wanted.dtype != found.dtype or not np.isfinite(found[known]).all():
        return Classes(top1=top1)
    usable = np.isfinite(scores).any(axis=1)
    others = _masked(positions, known, found.astype(np.float64))[usable]
    return Classes(_divergence(scores[usable], others), _same_top(scores[usable], others), top1)


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


def _noise(wanted: Array, difference: Array) -> float:
    """Scaled first, so that squares do not overflow; 1 for any answer where the original's is zero."""
    largest = float(np.max(np.abs(wanted), initial=0.0))
    if largest == 0:
        return float(np.any(difference != 0))
    wanted, difference = wanted / largest, difference / largest
    with np.errstate(over="ignore"):
        return min(float(difference @ difference) / float(wanted @ wanted), _MOST)


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
