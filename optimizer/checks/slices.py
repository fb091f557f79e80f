"""Where a candidate loses: its agreement by length and by class of the original. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from optimizer.checks.figures import Classes, Likeness

LEAST_IN_SLICE = 5
"""A slice of fewer samples says more about those than about the candidate; it is shown, but never called the worst."""

LEAST_TO_JUDGE = 20
"""Of fewer samples no candidate is rejected: two of them that happen to be hard would be a tenth."""

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
    def changes(self) -> float:
        """Points (hundredths) of its samples that got another top class; 0 where there are no classes."""
        return 0.0 if self.same_top1 is None else 100 * (1 - self.same_top1)

    @property
    def is_by_class(self) -> bool:
        """Whether its samples have a class in common."""
        return self.by == By.CLASS.value

    @property
    def place(self) -> str:
        """In words."""
        return f"{self.by} {self.name} ({self.n_samples} samples)"

    @property
    def figures(self) -> str:
        """In words."""
        top = "" if self.same_top1 is None else f", the same top class in {self.same_top1:.1%}"
        return f"mean cosine {shown(self.cosine_mean)}{top}"


def slice_rows(lengths: Sequence[int], likenesses: Sequence[Likeness], classes: Sequence[Classes]) -> tuple[Slice, ...]:
    """Of rows in one order. By length where there are several, doubling from bucket to bucket; by class where there are some, and not
    too many."""
    tops = {one.top1 for one in classes if one.top1 is not None}
    rows = list(zip(likenesses, classes, strict=True))
    slices: list[Slice] = []
    if len({_bucket(length) for length in lengths}) > 1:
        slices += _slices(By.LENGTH, [_bucket(length) for length in lengths], rows, _range)
    if 1 < len(tops) <= MOST_CLASSES:
        slices += _slices(By.CLASS, [one.top1 for one in classes], rows, str)
    return tuple(slices)


def worst_of(slices: Sequence[Slice]) -> Slice | None:
    """The one that loses most, if one loses anything worth printing."""
    large = [one for one in slices if one.n_samples >= LEAST_IN_SLICE and one.loss > 1e-6]
    return max(large, key=lambda one: one.loss, default=None)


def shown(share: float) -> str:
    """For people, with enough digits to see what is missing to 1."""
    return f"{share:.6f}" if share > 0.9999 else f"{share:.5g}"


def _slices(
    by: By, keys: Sequence[int | None], rows: Sequence[tuple[Likeness, Classes]], name: Callable[[int], str]
) -> list[Slice]:
    """In the order of the keys; rows without one are in none."""
    made = []
    for key in sorted({key for key in keys if key is not None}):
        chosen = [row for row, mine in zip(rows, keys, strict=True) if mine == key]
        tops = [0.0 if likeness.flaw else classes.same_top1 for likeness, classes in chosen]
        known = [top for top in tops if top is not None]
        has_classes = any(classes.same_top1 is not None for _, classes in chosen)
        cosine = float(np.mean([likeness.cosine for likeness, _ in chosen]))
        made.append(Slice(by.value, name(key), len(chosen), cosine, float(np.mean(known)) if has_classes else None))
    return made


def _bucket(length: int) -> int:
    """The power of two that is not below the length."""
    return 1 << max(0, length - 1).bit_length() if length else 0


def _range(bucket: int) -> str:
    """The lengths of a bucket, in words."""
    return str(bucket) if bucket <= 2 else f"{bucket // 2 + 1} to {bucket}"
