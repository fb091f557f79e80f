"""Where a candidate loses: its agreement by length and by class of the original. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from optimizer.checks.figures import Figures

LEAST_IN_SLICE = 5
"""A slice of fewer samples says more about those than about the candidate; it is shown, but never called the worst."""

MOST_CLASSES = 50
"""With more of them each has too few samples."""


class By(Enum):
    """What samples are put together by."""

    LENGTH = "length"
    CLASS = "class"


@dataclass(frozen=True, slots=True)
class Slice:
    """The samples with lengths, or a top class of the original, called `name`. Flawed answers count as cosine 0 and another class."""

    by: str
    name: str
    n_samples: int
    cosine_mean: float
    same_top1: float | None

    @property
    def loss(self) -> float:
        """0 to 1: samples with another class, or where there are no classes what is missing to a cosine of 1."""
        return 1 - (self.cosine_mean if self.same_top1 is None else self.same_top1)

    @property
    def place(self) -> str:
        """In words."""
        return f"{self.by} {self.name} ({self.n_samples} samples)"

    @property
    def figures(self) -> str:
        """In words."""
        top = "" if self.same_top1 is None else f", the same top class in {self.same_top1:.1%}"
        return f"mean cosine {shown(self.cosine_mean)}{top}"


def slice_samples(lengths: Sequence[int], figures: Sequence[Figures]) -> tuple[Slice, ...]:
    """By length where there are several, doubling from bucket to bucket; by class where there are some, and not too many."""
    if not any(one.cosine is not None for one in figures):
        return ()
    classes = {one.top1 for one in figures if one.top1 is not None}
    slices: list[Slice] = []
    if len({_bucket(length) for length in lengths}) > 1:
        slices += _slices(By.LENGTH, [_bucket(length) for length in lengths], figures, _range)
    if 1 < len(classes) <= MOST_CLASSES:
        slices += _slices(By.CLASS, [one.top1 for one in figures], figures, str)
    return tuple(slices)


def worst_of(slices: Sequence[Slice]) -> Slice | None:
    """The one that loses most, if one loses anything worth printing."""
    large = [one for one in slices if one.n_samples >= LEAST_IN_SLICE and one.loss > 1e-6]
    return max(large, key=lambda one: one.loss, default=None)


def shown(share: float) -> str:
    """For people, with enough digits to see what is missing to 1."""
    return f"{share:.6f}" if share > 0.9999 else f"{share:.4g}"


def _slices(by: By, keys: Sequence[int | None], figures: Sequence[Figures], name: Callable[[int], str]) -> list[Slice]:
    """In the order of the keys; samples without one are in none."""
    made = []
    for key in sorted({key for key in keys if key is not None}):
        chosen = [one for one, mine in zip(figures, keys, strict=True) if mine == key]
        tops = [0.0 if one.flaw else one.same_top1 for one in chosen]
        known = [top for top in tops if top is not None]
        has_classes = any(one.same_top1 is not None for one in chosen)
        made.append(
            Slice(
                by.value, name(key), len(chosen), float(np.mean([one.cosine or 0.0 for one in chosen])),
                float(np.mean(known)) if has_classes else None,
            )
        )  # fmt: skip
    return made


def _bucket(length: int) -> int:
    """The power of two that is not below the length."""
    return 1 << max(0, length - 1).bit_length() if length else 0


def _range(bucket: int) -> str:
    """The lengths of a bucket, in words."""
    return str(bucket) if bucket <= 2 else f"{bucket // 2 + 1} to {bucket}"
