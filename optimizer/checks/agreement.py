"""How far a model's answers agree with another's, where no labels are given.

Pure: no model is run and no file read here. Agreement is not accuracy: a changed answer may be a better one.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from optimizer.checks.figures import Figures, Flaw, compare_answers, is_normalised, same_neighbour
from optimizer.checks.slices import Slice, shown, slice_samples, worst_of
from server.backends.base import Array

LEAST_NEIGHBOURS = 3
"""With fewer samples there is no choice of nearest neighbours."""


@dataclass(frozen=True, slots=True)
class Answered:
    """One sample and its two answers: output name → array [1, …]. `length`: its size of the ragged axis, 0 without one."""

    wanted: Mapping[str, Array]
    found: Mapping[str, Array]
    length: int = 0


@dataclass(frozen=True, slots=True)
class OutputAgreement:
    """One output over all samples. None: the figure has no meaning for it, or no answer could be compared.

    `n_flawed` answers could not be compared, the first of them for the reason `flaw`; they count as cosine 0, as another class and
    as another neighbour. `largest_relative` is in shares of the sample's own largest value; where an output is one number, of the
    range that the original's answers have over the samples, as a cosine says nothing then. `kl_…` in nats, `same_top1` and
    `same_neighbour` as shares of 1, `equal` likewise, for outputs that are not floats: those that are bit for bit the original's.
    """

    output: str
    n_flawed: int
    flaw: str | None
    cosine_mean: float | None
    cosine_worst: float | None
    largest_absolute: float | None
    largest_relative: float | None
    kl_mean: float | None
    kl_worst: float | None
    same_top1: float | None
    same_neighbour: float | None
    equal: float | None


@dataclass(frozen=True, slots=True)
class Agreement:
    """Over `n_samples`. `lead`: the output that the slices and the sentence are about."""

    n_samples: int
    lead: str
    outputs: tuple[OutputAgreement, ...]
    slices: tuple[Slice, ...]

    @property
    def leading(self) -> OutputAgreement:
        """The lead's figures."""
        return next(one for one in self.outputs if one.output == self.lead)

    @property
    def worst_slice(self) -> Slice | None:
        """The slice that loses most; None where none of a size worth naming loses anything."""
        return worst_of(self.slices)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Agreement:
        """What to_json gave."""
        outputs = tuple(OutputAgreement(**one) for one in data["outputs"])
        return Agreement(data["n_samples"], data["lead"], outputs, tuple(Slice(**one) for one in data["slices"]))

    def sentence(self) -> str:
        """For people."""
        lead = self.leading
        said = f"agreement, not accuracy: over {self.n_samples} samples output {lead.output!r} {_figures(lead)}"
        flawed = sum(one.n_flawed for one in self.outputs)
        said += f"; {flawed} answers could not be compared" if flawed else ""
        worst = self.worst_slice
        return said + (f"; most is lost at {worst.place}: {worst.figures}" if worst else "")


def agree(answers: Sequence[Answered], embedding: str | None = None) -> Agreement:
    """At least one sample, all with the same outputs. `embedding`: the output that is one, which then has neighbours and no classes.

    An output of floats [1, n ≥ 2] that is not known to be an embedding has both: nobody said what it is. One whose vectors all have
    length 1 is taken for an embedding.
    """
    names = list(answers[0].wanted)
    per_output = {name: [_compare(one, name) for one in answers] for name in names}
    embeddings = [name for name in names if name == embedding or _looks_embedded(answers, name)]
    for name in names:
        if name in embeddings:
            per_output[name] = [_without_classes(one) for one in per_output[name]]
        elif answers[0].wanted[name].size == 1:
            per_output[name] = _relative_to_range(per_output[name], [one.wanted[name] for one in answers])
    outputs = tuple(_output(name, per_output[name], _neighbours(answers, name, embedding)) for name in names)
    lead = _lead(outputs, embeddings)
    slices = slice_samples([one.length for one in answers], per_output[lead])
    return Agreement(len(answers), lead, outputs, slices)


def _compare(one: Answered, name: str) -> Figures:
    return compare_answers(one.wanted[name], one.found[name], one.length)


def _without_classes(one: Figures) -> Figures:
    return Figures(one.flaw, one.cosine, one.absolute, one.relative, equal=one.equal)


def _relative_to_range(figures: Sequence[Figures], wanted: Sequence[Array]) -> list[Figures]:
    """Outputs of one number: its own size is no measure of an error where it may be near zero."""
    values = [float(array.reshape(-1)[0]) for array in wanted if array.dtype.kind == "f" and array.size == 1]
    finite = [value for value in values if np.isfinite(value)]
    span = (max(finite) - min(finite) if finite else 0.0) or max((abs(value) for value in finite), default=0.0) or 1.0
    return [
        one if one.relative is None else replace(one, relative=min((one.absolute or 0.0) / span, sys.float_info.max))
        for one in figures
    ]


def _vectors(answers: Sequence[Answered], name: str) -> Array | None:
    """The original's answers as [n, size]; None where they are not vectors of floats of one size."""
    first = answers[0].wanted[name]
    if first.dtype.kind != "f" or first.ndim != 2 or first.shape[1] < 2:
        return None
    if any(one.wanted[name].shape != first.shape or not np.isfinite(one.wanted[name]).all() for one in answers):
        return None
    return np.concatenate([one.wanted[name] for one in answers])


def _looks_embedded(answers: Sequence[Answered], name: str) -> bool:
    vectors = _vectors(answers, name)
    return vectors is not None and is_normalised(vectors)


def _neighbours(answers: Sequence[Answered], name: str, embedding: str | None) -> float | None:
    """The share of samples with the same nearest neighbour. Where an output is named as the embedding, only that one has it."""
    if len(answers) < LEAST_NEIGHBOURS or embedding not in (None, name):
        return None
    wanted = _vectors(answers, name)
    if wanted is None:
        return None
    size = wanted.shape[1]
    comparable = [_compare(one, name).flaw is None for one in answers]
    rows = [one.found[name] if good else np.zeros((1, size)) for one, good in zip(answers, comparable, strict=True)]
    same = same_neighbour(wanted, np.concatenate(rows)) & np.array(comparable)
    return float(np.mean(same))


def _output(name: str, figures: Sequence[Figures], neighbours: float | None) -> OutputAgreement:
    flaws: list[Flaw] = [one.flaw for one in figures if one.flaw is not None]
    cosines = [one.cosine for one in figures if one.cosine is not None]
    absolutes = [one.absolute for one in figures if one.absolute is not None]
    relatives = [one.relative for one in figures if one.relative is not None]
    divergences = [one.kl for one in figures if one.kl is not None]
    tops = [one.same_top1 for one in figures if one.same_top1 is not None]
    is_exact = not relatives and len(flaws) < len(figures)  # every comparison of floats has that one
    zeros = [0.0] * len(flaws)
    return OutputAgreement(
        output=name,
        n_flawed=len(flaws),
        flaw=flaws[0].value if flaws else None,
        cosine_mean=_mean([*cosines, *zeros]) if cosines else None,
        cosine_worst=min([*cosines, *zeros]) if cosines else None,
        largest_absolute=max(absolutes, default=None),
        largest_relative=max(relatives, default=None),
        kl_mean=_mean(divergences) if divergences else None,
        kl_worst=max(divergences, default=None),
        same_top1=_mean([*tops, *zeros]) if tops else None,
        same_neighbour=neighbours,
        equal=_mean([one.equal for one in figures]) if is_exact else None,
    )


def _lead(outputs: Sequence[OutputAgreement], embeddings: Sequence[str]) -> str:
    """An embedding, else what has classes, else what has floats, else the first."""
    ranks = [(one.output not in embeddings, one.same_top1 is None, one.cosine_mean is None) for one in outputs]
    return outputs[ranks.index(min(ranks))].output


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def _figures(one: OutputAgreement) -> str:
    parts = []
    if one.cosine_mean is not None and one.cosine_worst is not None:
        parts.append(f"has cosine {shown(one.cosine_mean)} on average and {shown(one.cosine_worst)} at worst")
    if one.same_top1 is not None:
        parts.append(f"the same top class in {one.same_top1:.1%}")
    if one.same_neighbour is not None:
        parts.append(f"the same nearest neighbour in {one.same_neighbour:.1%}")
    if one.kl_mean is not None:
        parts.append(f"KL {one.kl_mean:.2g}")
    if one.cosine_mean is None and one.largest_relative is not None:
        parts.append(f"is off by {one.largest_relative:.2%} of its range at most")
    if one.equal is not None:
        parts.append(f"is equal in {one.equal:.1%}")
    return ", ".join(parts) or "cannot be compared"
