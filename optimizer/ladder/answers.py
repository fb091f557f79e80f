"""How well a candidate's answers agree with the original model's. Agreement, not accuracy: the original may be wrong itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from server.backends.base import Array, BatchError, Session
from server.intake.checks import cosines

_TINY = 1e-12


@dataclass(frozen=True, slots=True)
class Case:
    """One batch, and what the original answers to it, by output name. `place`: what it is, in words. `is_edge`: only whether the
    answers are whole and finite is asked, because nobody's requests look like that."""

    place: str
    inputs: Mapping[str, Array]
    wanted: Mapping[str, Array]
    is_edge: bool = False


@dataclass(frozen=True, slots=True)
class Likeness:
    """One output over `n_rows` rows: cosine of each row with the original's (of integers: the share that is equal), its mean and
    worst, and where that is; how many times as large as the original's all values are together, which no cosine shows; largest
    absolute error. Where the output may be logits (float [rows, n ≥ 2]): mean of the KL divergence
    of its softmax from the original's, in nats, and the share of rows with the same largest value."""

    output: str
    n_rows: int
    mean_cosine: float
    worst_cosine: float
    worst_at: str
    size: float
    largest_error: float
    kl: float | None = None
    top1: float | None = None


@dataclass(frozen=True, slots=True)
class Agreement:
    """All outputs; `broken`: the first answer that is none (a failure, a wrong shape, not finite where the original is)."""

    outputs: tuple[Likeness, ...]
    broken: str | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Agreement:
        """What to_json made."""
        return Agreement(tuple(Likeness(**one) for one in data["outputs"]), data["broken"])

    @property
    def worst(self) -> Likeness | None:
        """The output that is least alike on average; None where something is broken."""
        return min(self.outputs, key=lambda one: one.mean_cosine, default=None)

    def sentence(self) -> str:
        """For people."""
        one = self.worst
        if self.broken is not None or one is None:
            return self.broken or "nothing was compared"
        top1 = "" if one.top1 is None else f", the same largest value in {one.top1:.2%} of them"
        figures = f"mean cosine {one.mean_cosine:.5f}, worst {one.worst_cosine:.5f}{top1}"
        return f"{figures}; {one.n_rows} rows, output {one.output!r} (agreement with the original, not accuracy)"


def compare_answers(session: Session, cases: Iterable[Case]) -> Agreement:
    """Runs all of `cases` until something is broken."""
    found: dict[str, list[_Pair]] = {spec.name: [] for spec in session.outputs}
    for case in cases:
        try:
            answers = session.run(case.inputs)
        except BatchError as error:
            return Agreement((), f"fails on {case.place}, where the original does not: {error}")
        for spec, mine in zip(session.outputs, answers, strict=True):
            theirs = case.wanted[spec.name]
            broken = _broken(spec.name, mine, theirs, case.place)
            if broken is not None:
                return Agreement((), broken)
            if not case.is_edge:
                found[spec.name].append(_Pair(case.place, mine, theirs))
    return Agreement(tuple(_likeness(name, pairs) for name, pairs in found.items() if pairs))


@dataclass(frozen=True, slots=True)
class _Pair:
    place: str
    mine: Array
    theirs: Array


def _broken(name: str, mine: Array, theirs: Array, place: str) -> str | None:
    if mine.shape != theirs.shape or mine.dtype != theirs.dtype:
        found, wanted = f"{mine.dtype} {list(mine.shape)}", f"{theirs.dtype} {list(theirs.shape)}"
        return f"output {name!r} is {found} for {place}, the original's is {wanted}"
    if mine.dtype.kind == "f" and (np.isfinite(theirs) & ~np.isfinite(mine)).any():
        return f"output {name!r} is not finite for {place}, where the original's is"
    return None


def _likeness(name: str, pairs: list[_Pair]) -> Likeness:
    alike: list[tuple[float, str]] = []
    scale = _usual_size([pair.theirs for pair in pairs])
    for pair in pairs:
        alike += [(value, pair.place) for value in _alike(pair, scale)]
    worst, worst_at = min(alike)
    size = _usual_size([pair.mine for pair in pairs]) / max(scale, _TINY) if scale else 1.0
    error = max((float(np.max(_gap(pair), initial=0.0)) for pair in pairs), default=0.0)
    kl, top1 = _as_logits(pairs)
    mean = float(np.mean([value for value, _ in alike]))
    return Likeness(name, len(alike), mean, worst, worst_at, size, error, kl, top1)


def _usual_size(arrays: list[Array]) -> float:
    """Root mean square of the finite values; 0 where there are none."""
    numbers = [array.reshape(-1).astype(np.float64) for array in arrays if array.dtype.kind in "fiub"]
    values = np.concatenate(numbers) if numbers else np.zeros(0)
    values = values[np.isfinite(values)]
    return float(np.sqrt(np.mean(values**2))) if values.size else 0.0


def _alike(pair: _Pair, scale: float) -> Iterator[float]:
    """Per row. A row of one value has no direction: for it 1 - r²/2, with r its error in units of `scale`, which is the cosine of a
    long vector whose parts are off by so much."""
    mine, theirs = pair.mine, pair.theirs
    if mine.dtype.kind != "f":
        yield from (float(np.mean(a == b)) if np.size(b) else 1.0 for a, b in zip(mine, theirs, strict=True))
    elif mine.size == len(mine):
        for gap in _gap(pair).reshape(-1):
            yield float(max(-1.0, 1 - (gap / max(scale, _TINY)) ** 2 / 2))
    else:
        yield from cosines(mine, theirs)


def _gap(pair: _Pair) -> Array:
    """Absolute differences where both are finite, zeros elsewhere."""
    if pair.mine.dtype.kind not in "fiub":
        return np.zeros(1)
    mine, theirs = pair.mine.astype(np.float64), pair.theirs.astype(np.float64)
    both = np.isfinite(mine) & np.isfinite(theirs)
    gap: Array = np.abs(np.where(both, mine, 0.0) - np.where(both, theirs, 0.0))
    return gap


def _as_logits(pairs: list[_Pair]) -> tuple[float | None, float | None]:
    """KL divergence and share of equal largest values, over the rows that are finite."""
    rows = [
        (mine.astype(np.float64), theirs.astype(np.float64))
        for pair in pairs
        if pair.mine.dtype.kind == "f" and pair.mine.ndim == 2 and pair.mine.shape[1] >= 2
        for mine, theirs in zip(pair.mine, pair.theirs, strict=True)
        if np.isfinite(mine).all() and np.isfinite(theirs).all()
    ]
    if not rows:
        return None, None
    divergences = [float(np.sum(np.exp(_log_softmax(b)) * (_log_softmax(b) - _log_softmax(a)))) for a, b in rows]
    return float(np.mean(divergences)), float(np.mean([np.argmax(a) == np.argmax(b) for a, b in rows]))


def _log_softmax(values: Array) -> Array:
    shifted = values - np.max(values)
    logged: Array = shifted - np.log(np.sum(np.exp(shifted)))
    return logged
