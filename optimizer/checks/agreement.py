"""How far a model's answers agree with the original's: the one set of figures for candidates, versions and calibration.

Pure: no model is run and no file read here. Agreement is not accuracy: a changed answer may be a better one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import Enum
from typing import Any, TypeVar

import numpy as np

from optimizer.checks.figures import (
    Classes,
    Likeness,
    compare_classes,
    compare_row,
    is_normalised,
    same_neighbour,
    usual_size,
)
from optimizer.checks.slices import Slice, shown, slice_rows, worst_of
from server.backends.base import Array

LEAST_NEIGHBOURS = 3
"""With fewer samples there is no choice of nearest neighbours."""

Thing = TypeVar("Thing")


class Kind(Enum):
    """What an answer is counted for."""

    SAMPLE = "a request as it comes: counts for everything"
    BATCH = "several of them, or stretched ones: counts for how close the answers are, not for neighbours and slices"
    EDGE = "nobody's requests look like that: counts as an edge only"


@dataclass(frozen=True, slots=True)
class Answered:
    """A batch and its two answers: output name → array [rows, …]. `place`: what it is, in words; `length`: the rows' size of the
    ragged axis, 0 where there is none or they differ; `edge`: what is extreme about it, "" where nothing is."""

    place: str
    wanted: Mapping[str, Array]
    found: Mapping[str, Array]
    length: int = 0
    kind: Kind = Kind.SAMPLE
    edge: str = ""


@dataclass(frozen=True, slots=True)
class OutputAgreement:
    """One output over all rows but those of edges alone. None: the figure has no meaning for it, or no answer could be compared.

    `n_flawed` rows could not be compared, the first of them for the reason `flaw`; they count as cosine 0, as another class and
    as another neighbour. Cosines and relative errors as figures.Likeness has them; `worst_at`: where the worst is. `noise`: the mean
    of its noises. `size`: how many times as large as the original's all answers are together, which no cosine shows. Of samples: `kl_…` in nats,
    `same_top1` and `same_neighbour` as shares of 1.
    """

    output: str
    n_rows: int
    n_flawed: int
    flaw: str | None
    cosine_mean: float
    cosine_worst: float
    worst_at: str
    noise: float
    size: float
    largest_absolute: float | None
    largest_relative: float | None
    kl_mean: float | None = None
    kl_worst: float | None = None
    same_top1: float | None = None
    same_neighbour: float | None = None


@dataclass(frozen=True, slots=True)
class Edge:
    """The row and output that are least like the original's at one edge."""

    place: str
    output: str
    cosine: float


@dataclass(frozen=True, slots=True)
class Agreement:
    """Over `n_samples` single requests, and what else was asked. `lead`: the output that the slices and the sentence are about."""

    n_samples: int
    lead: str
    outputs: tuple[OutputAgreement, ...]
    slices: tuple[Slice, ...] = ()
    edges: tuple[Edge, ...] = ()

    @property
    def leading(self) -> OutputAgreement:
        """The lead's figures."""
        return next(one for one in self.outputs if one.output == self.lead)

    @property
    def least(self) -> OutputAgreement:
        """The output that is least alike on average."""
        return min(self.outputs, key=lambda one: one.cosine_mean)

    @property
    def worst_slice(self) -> Slice | None:
        """The slice that loses most; None where none of a size worth naming loses anything."""
        return worst_of(self.slices)

    @property
    def worst_edge(self) -> Edge | None:
        """The edge that is least alike; None where none was asked."""
        return min(self.edges, key=lambda one: one.cosine, default=None)

    def with_classes_of(self, other: Agreement) -> Agreement:
        """The same with the slices by class of `other`, where it has some: it has more rows."""
        theirs = [one for one in other.slices if one.is_by_class]
        mine = [one for one in self.slices if not (theirs and one.is_by_class)]
        return replace(self, slices=(*mine, *theirs))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Agreement:
        """What to_json gave."""
        return Agreement(
            data["n_samples"], data["lead"], tuple(OutputAgreement(**one) for one in data["outputs"]),
            tuple(Slice(**one) for one in data["slices"]), tuple(Edge(**one) for one in data["edges"]),
        )  # fmt: skip

    def sentence(self) -> str:
        """For people."""
        lead, least = self.leading, self.least
        said = f"agreement, not accuracy: over {lead.n_rows} rows output {lead.output!r} has {_figures(lead)}"
        if least.cosine_mean < lead.cosine_mean:
            said += f"; output {least.output!r} has cosine {shown(least.cosine_mean)} on average"
        flawed = sum(one.n_flawed for one in self.outputs)
        said += f"; {flawed} answers could not be compared" if flawed else ""
        worst = self.worst_slice
        return said + (f"; most is lost at {worst.place}: {worst.figures}" if worst else "")


def agree(answers: Sequence[Answered], embedding: str | None = None) -> Agreement:
    """At least one that is more than an edge, all with the same outputs. `embedding`: the output that is one, which then has
    neighbours and no classes.

    An output of floats [rows, n ≥ 2] that is not known to be an embedding has both: nobody said what it is. One whose vectors all
    have length 1 is taken for an embedding.
    """
    usual = [one for one in answers if one.kind is not Kind.EDGE]
    outputs = [_Output(name, usual, embedding) for name in answers[0].wanted]
    lead = min(outputs, key=lambda one: one.rank)
    samples = [one for one in usual if one.kind is Kind.SAMPLE]
    lengths = [one.length for one in samples for _ in range(_rows(one))]
    edges = tuple(_edge(one, outputs) for one in answers if one.edge)
    slices = slice_rows(lengths, lead.of_samples(lead.likenesses), lead.of_samples(lead.classes))
    return Agreement(len(lengths), lead.name, tuple(one.found() for one in outputs), slices, edges)


def closeness(answers: Sequence[Answered]) -> tuple[float, float]:
    """(mean cosine of the output where it is least, mean noise of the output where it is most): what is needed many times over, without
    all that `agree` reckons besides."""
    outputs = [_likenesses(answers, name, _usual(answers, name)) for name in answers[0].wanted]
    cosines, noises = ([[getattr(one, what) for one in rows] for rows in outputs] for what in ("cosine", "noise"))
    return min(_mean(values) for values in cosines), max(_mean(values) for values in noises)


class _Output:
    """One output's rows, compared."""

    def __init__(self, name: str, answers: Sequence[Answered], embedding: str | None) -> None:
        self.name, self._answers = name, answers
        self.usual = _usual(answers, name)
        self.likenesses = _likenesses(answers, name, self.usual)
        self._places = [(one.place, one.kind) for one in answers for _ in range(_rows(one))]
        vectors = _vectors(answers, name)
        self.is_embedding = name == embedding or (vectors is not None and is_normalised(vectors))
        self._same_neighbour = self._neighbours(vectors) if embedding in (None, name) else None
        self.classes = [Classes()] * len(self.likenesses)
        if not self.is_embedding:
            self.classes = [
                compare_classes(wanted, found, one.length) for one in answers for wanted, found in _split(one, name)
            ]  # fmt: skip

    @property
    def rank(self) -> tuple[bool, bool, bool]:
        """An embedding leads, else what has classes, else what has floats, else the first."""
        has_classes = any(one.kl is not None for one in self.classes)
        return not self.is_embedding, not has_classes, all(one.relative is None for one in self.likenesses)

    def of_samples(self, rows: Sequence[Thing]) -> list[Thing]:
        """Those of samples."""
        return [row for row, (_, kind) in zip(rows, self._places, strict=True) if kind is Kind.SAMPLE]

    def found(self) -> OutputAgreement:
        """The figures."""
        rows = self.likenesses
        flaws = [one.flaw for one in rows if one.flaw is not None]
        worst = min(range(len(rows)), key=lambda n: rows[n].cosine)
        divergences = [one.kl for one in self.of_samples(self.classes) if one.kl is not None]
        tops = [one.same_top1 for one in self.of_samples(self.classes) if one.same_top1 is not None]
        lost = [0.0 for one in self.of_samples(rows) if one.flaw is not None]
        return OutputAgreement(
            output=self.name,
            n_rows=len(rows),
            n_flawed=len(flaws),
            flaw=flaws[0].value if flaws else None,
            cosine_mean=_mean([one.cosine for one in rows]),
            cosine_worst=rows[worst].cosine,
            worst_at=self._places[worst][0],
            noise=_mean([one.noise for one in rows]),
            size=usual_size([one.found[self.name] for one in self._answers]) / self.usual if self.usual else 1.0,
            largest_absolute=max((one.absolute for one in rows if one.absolute is not None), default=None),
            largest_relative=max((one.relative for one in rows if one.relative is not None), default=None),
            kl_mean=_mean(divergences) if divergences else None,
            kl_worst=max(divergences, default=None),
            same_top1=_mean([*tops, *lost]) if tops else None,
            same_neighbour=self._same_neighbour,
        )

    def _neighbours(self, vectors: Array | None) -> float | None:
        """The share of samples with the same nearest neighbour."""
        if vectors is None or len(vectors) < LEAST_NEIGHBOURS:
            return None
        comparable = [one.flaw is None for one in self.of_samples(self.likenesses)]
        rows = [row for one in self._answers if one.kind is Kind.SAMPLE for _, row in _split(one, self.name)]
        found = [row if good else np.zeros((1, vectors.shape[1])) for row, good in zip(rows, comparable, strict=True)]
        return float(np.mean(same_neighbour(vectors, np.concatenate(found)) & np.array(comparable)))


def _likenesses(answers: Sequence[Answered], name: str, usual: float) -> list[Likeness]:
    return [compare_row(wanted, found, usual) for one in answers for wanted, found in _split(one, name)]


def _edge(one: Answered, outputs: Sequence[_Output]) -> Edge:
    rows = [(row, output.name) for output in outputs for row in _likenesses([one], output.name, output.usual)]
    worst, name = min(rows, key=lambda pair: pair[0].cosine)
    return Edge(one.place, name, worst.cosine)


def _usual(answers: Sequence[Answered], name: str) -> float:
    return usual_size([one.wanted[name] for one in answers])


def _rows(one: Answered) -> int:
    return len(next(iter(one.wanted.values())))


def _split(one: Answered, name: str) -> list[tuple[Array, Array]]:
    """Row by row; an answer of another number of rows is no answer to any of them."""
    wanted, found = one.wanted[name], one.found[name]
    if found.ndim == 0 or len(found) != len(wanted):
        return [(wanted[n : n + 1], found[:0] if found.ndim else found) for n in range(len(wanted))]
    return [(wanted[n : n + 1], found[n : n + 1]) for n in range(len(wanted))]


def _vectors(answers: Sequence[Answered], name: str) -> Array | None:
    """The original's answers to the samples as [n, size]; None where they are not vectors of floats of one size."""
    arrays = [one.wanted[name] for one in answers if one.kind is Kind.SAMPLE]
    if not arrays or arrays[0].dtype.kind != "f" or arrays[0].ndim != 2 or arrays[0].shape[1] < 2:
        return None
    if any(array.shape[1:] != arrays[0].shape[1:] or not np.isfinite(array).all() for array in arrays):
        return None
    return np.concatenate(arrays)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def _figures(one: OutputAgreement) -> str:
    parts = [f"cosine {shown(one.cosine_mean)} on average and {shown(one.cosine_worst)} at worst ({one.worst_at})"]
    if one.same_top1 is not None:
        parts.append(f"the same top class in {one.same_top1:.1%}")
    if one.same_neighbour is not None:
        parts.append(f"the same nearest neighbour in {one.same_neighbour:.1%}")
    if one.kl_mean is not None:
        parts.append(f"KL {one.kl_mean:.2g}")
    if one.largest_relative is not None:
        parts.append(f"a largest error of {one.largest_relative:.2%}")
    return ", ".join(parts)
