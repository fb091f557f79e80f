"""Whether a tool's output is good enough to be compared in speed: the same bounds for every tool, ferry's own included. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from loadtests.agreed import Agreement

LEAST_MEAN_COSINE, LEAST_WORST_COSINE = 0.999, 0.99
"""Of the answers with the original's: the bounds of ferry's gate where it has no score to go by."""

MOST_LOSS = 0.5
"""Points (hundredths) of the task's score: the bound of ferry's gate where it has one."""


@dataclass(frozen=True, slots=True)
class Quality:
    """How close a version's answers are to the original's, and its score beside the original's where the task has one."""

    agreement: Agreement
    score: float | None
    original_score: float | None

    @property
    def loss(self) -> float | None:
        """Points of the score that are lost; negative where it gained."""
        if self.score is None or self.original_score is None:
            return None
        return (self.original_score - self.score) * 100

    @property
    def failings(self) -> list[str]:
        """What is not good enough, with its bound; empty if it all is."""
        agreed, found = self.agreement, []
        if not agreed.mean_cosine >= LEAST_MEAN_COSINE:  # nor if it is no number
            found.append(f"mean cosine {agreed.mean_cosine:.5f}, wanted is {LEAST_MEAN_COSINE:g}")
        if not agreed.worst_cosine >= LEAST_WORST_COSINE:
            found.append(f"worst cosine {agreed.worst_cosine:.5f}, wanted is {LEAST_WORST_COSINE:g}")
        if self.loss is not None and self.loss > MOST_LOSS:
            found.append(f"a loss of {self.loss:.2f} points, allowed are {MOST_LOSS:g}")
        return found

    @property
    def told(self) -> str:
        """In a line, for a version's check."""
        agreed = self.agreement
        return (
            f"mean cosine {agreed.mean_cosine:.5f}, worst {agreed.worst_cosine:.5f} (agreement with the original, not accuracy)"
        )


def quality_values(quality: Quality) -> Mapping[str, Any]:
    """For JSON."""
    return {**asdict(quality), "loss": quality.loss, "failings": quality.failings}
