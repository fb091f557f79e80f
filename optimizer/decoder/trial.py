"""What can be tried of a decoder, what became of it, and the gates that it must pass. Values and pure functions only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from optimizer.decoder.likeness import Likeness
from optimizer.ladder.gates import Failed, Gate
from optimizer.lineage import Line
from server.contract.step_profile import StepProfile

MAX_RISE = 3.0
"""Per cent by which a candidate's perplexity may be above the original's, where nobody says."""

MIN_TOP1 = 0.85
"""Whatever its perplexity: with less of its likeliest tokens the original's, it is another model. Where nobody says otherwise."""

_SAME_KL = 1e-3
"""Nats. The export in float32 calculates what the original does, in another order."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """`bits` of its weights; None: float32, the plain export. `why`: what is hoped of it."""

    name: str
    bits: int | None
    why: str


PLAIN = Candidate("fp32", None, "the plain export, checked against the original")
SMALLER = (
    Candidate("int8", 8, "weights a quarter of the size, hardly a prediction changed"),
    Candidate("int4", 4, "weights an eighth of the size: least to read for each token"),
)
"""In the order in which they are tried."""


@dataclass(frozen=True, slots=True)
class Gates:
    """What a smaller candidate must keep. `max_rise`: of the perplexity, in per cent. `min_top1`: share of places whose likeliest token is
    the original's."""

    max_rise: float = MAX_RISE
    min_top1: float = MIN_TOP1


@dataclass(frozen=True, slots=True)
class Trial:
    """`failed` None: it passed all gates so far. What comes after the gate that it failed is None. `company`: largest difference of a
    logit alone and in company; `lines`: of the lineage."""

    candidate: Candidate
    failed: Failed | None = None
    folder: Path | None = None
    n_bytes: int | None = None
    note: str = ""
    likeness: Likeness | None = None
    company: float | None = None
    memory_bytes: int | None = None
    steps: StepProfile | None = None
    lines: Sequence[Line] = ()

    @property
    def name(self) -> str:
        """The candidate's."""
        return self.candidate.name


def judge_answers(candidate: Candidate, likeness: Likeness, gates: Gates) -> Failed | None:
    """The plain export must be the original; what is smaller, as much like it as was asked for."""
    if candidate.bits is None:
        if likeness.kl <= _SAME_KL:
            return None
        return Failed(
            Gate.ANSWERS, f"KL divergence from the original {likeness.kl:.2g} nats, of an export at most {_SAME_KL:g}"
        )
    if likeness.top1 < gates.min_top1:
        wanted = f"wanted are {100 * gates.min_top1:g}%"
        return Failed(Gate.ANSWERS, f"the same likeliest token in {likeness.top1:.1%} of places, {wanted}")
    if 100 * likeness.rise > gates.max_rise:
        figures = f"perplexity {likeness.perplexity:.3f}, the original's {likeness.original:.3f}"
        return Failed(Gate.SCORE, f"{figures}: {100 * likeness.rise:.1f} % more, allowed are {gates.max_rise:g} %")
    return None


def judge_company(company: float) -> Failed | None:
    """Not a bit of what a row gets may depend on which others are calculated with it."""
    if company == 0:
        return None
    return Failed(Gate.PROFILE, f"rows influence each other: a logit differs by {company:.2g} alone and in company")
