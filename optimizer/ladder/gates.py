"""The gates of a candidate, as pure functions from what was found to the gate that it failed. Nothing is measured here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from optimizer.checks.agreement import Agreement
from optimizer.checks.slices import LEAST_TO_JUDGE
from server.intake.checks import COARSE_COSINE
from server.intake.measure import FRONT_END_ROWS_PER_S

MIN_COSINE, MIN_WORST_COSINE = 0.999, COARSE_COSINE
"""Where there is no score and the recipe says nothing: mean over all rows, and the worst row."""

MIN_EDGE_COSINE = 0.9
"""At an edge. Such inputs are rare, and unlike those that a candidate was calibrated with: this asks only that the answer is not
another one altogether."""

MIN_SAME_NEIGHBOUR = 0.98
"""Of an embedding's samples. Who searches by it sees another result for the others; no score of whole texts shows that."""

MAX_SLICE_FACTOR = 3.0
"""Where there is no score and the recipe says nothing, a slice may lose so many times what all samples may lose on average."""

CLEARLY_SMALLER = 2.0
"""Of candidates alike in rate, one that is so many times as large as the smallest has no excuse."""

MAX_SIZE_ERROR = 0.1
"""Whatever else is asked: so much larger or smaller than the original's, an output is another one."""


class Gate(Enum):
    """Where a candidate failed, in the order in which the gates come; the value is for people."""

    NEEDS = "needs"
    STEPS = "steps"
    SIZE = "size"
    LOADS = "loads"
    ANSWERS = "answers"
    EDGES = "edges"
    SCORE = "score"
    SLICES = "slices"
    LOOK = "first look"
    PROFILE = "profile"
    MEMORY = "memory"
    FALLBACK = "fallback"
    RATE = "rate"


@dataclass(frozen=True, slots=True)
class Failed:
    """The first gate that a candidate did not pass, and by how much or for what reason. `log`: what the tools printed."""

    gate: Gate
    reason: str
    log: str = ""


@dataclass(frozen=True, slots=True)
class Gates:
    """What a candidate must keep. `max_loss`: points (hundredths) of the score. `min_cosine`, `min_worst_cosine`: of its answers with
    the original's, mean and worst row; None: MIN_COSINE and MIN_WORST_COSINE where there is no score, nothing where there is one.
    `min_same_neighbour`: share of an embedding's samples, of LEAST_TO_JUDGE or more, with the same nearest neighbour; one may always
    have another. `min_edge_cosine`: of the worst row at each edge. `min_slice_cosine`: the mean of each slice of LEAST_TO_JUDGE samples or
    more; None: by MAX_SLICE_FACTOR where there is no score, nothing where there is one. `max_slice_changes`: points (hundredths) of a
    slice's samples that may get another top class; None: any. `max_bytes`: of the model file; `max_memory_bytes`: of a process that
    runs its largest batch; None: any."""

    max_loss: float = 0.5
    min_cosine: float | None = None
    min_worst_cosine: float | None = None
    min_edge_cosine: float = MIN_EDGE_COSINE
    min_same_neighbour: float = MIN_SAME_NEIGHBOUR
    min_slice_cosine: float | None = None
    max_slice_changes: float | None = None
    max_bytes: int | None = None
    max_memory_bytes: int | None = None

    @property
    def row_cosine(self) -> float:
        """How closely rows must agree with those that stand alone."""
        return MIN_WORST_COSINE if self.min_worst_cosine is None else self.min_worst_cosine

    def size(self, n_bytes: int) -> Failed | None:
        """Of the model file."""
        if self.max_bytes is None or n_bytes <= self.max_bytes:
            return None
        return Failed(Gate.SIZE, f"{n_bytes / 1e6:.2f} MB, allowed are {self.max_bytes / 1e6:.2f} MB")

    def answers(self, agreement: Agreement, has_score: bool) -> Failed | None:
        """They are close enough to the original's."""
        mean, worst = self.min_cosine, self.min_worst_cosine
        if not has_score:
            mean, worst = MIN_COSINE if mean is None else mean, MIN_WORST_COSINE if worst is None else worst
        for one in agreement.outputs:
            if mean is not None and one.cosine_mean < mean:
                return Failed(Gate.ANSWERS, f"mean cosine {one.cosine_mean:.5f} of output {one.output!r}, wanted is {mean:g}")
            if worst is not None and one.cosine_worst < worst:
                where = f"{one.cosine_worst:.5f} of output {one.output!r} ({one.worst_at})"
                return Failed(Gate.ANSWERS, f"worst cosine {where}, wanted is {worst:g}")
            if abs(one.size - 1) > MAX_SIZE_ERROR:
                return Failed(Gate.ANSWERS, f"output {one.output!r} is {one.size:.2f} times as large as the original's")
        return self._neighbours(agreement)

    def _neighbours(self, agreement: Agreement) -> Failed | None:
        """Only embeddings have neighbours and no classes."""
        for one in agreement.outputs:
            if one.same_neighbour is None or one.same_top1 is not None or agreement.n_samples < LEAST_TO_JUDGE:
                continue
            n_other = round((1 - one.same_neighbour) * agreement.n_samples)
            if n_other > 1 and one.same_neighbour < self.min_same_neighbour:
                found = f"the same nearest neighbour in {one.same_neighbour:.1%} of {agreement.n_samples} samples of output {one.output!r}"
                return Failed(Gate.ANSWERS, f"{found}, wanted is {self.min_same_neighbour:.1%}")
        return None

    def edges(self, agreement: Agreement) -> Failed | None:
        """At each of them the answer is the original's, roughly."""
        one = agreement.worst_edge
        if one is None or one.cosine >= self.min_edge_cosine:
            return None
        return Failed(
            Gate.EDGES, f"{one.place}: cosine {one.cosine:.5f} of output {one.output!r}, wanted is {self.min_edge_cosine:g}"
        )

    def slices(self, agreement: Agreement, has_score: bool) -> Failed | None:
        """None of those that are large enough loses much more than all on average."""
        least = self.min_slice_cosine
        if least is None and not has_score:
            least = 1 - MAX_SLICE_FACTOR * (1 - (MIN_COSINE if self.min_cosine is None else self.min_cosine))
        judged = [one for one in agreement.slices if one.n_samples >= LEAST_TO_JUDGE]
        worst = min(judged, key=lambda one: one.cosine_mean, default=None)
        if least is not None and worst is not None and worst.cosine_mean < least:
            return Failed(Gate.SLICES, f"{worst.place}: mean cosine {worst.cosine_mean:.5f}, wanted is {least:g}")
        changed = max((one for one in judged if one.same_top1 is not None), key=lambda one: one.changes, default=None)
        if self.max_slice_changes is not None and changed is not None and changed.changes > self.max_slice_changes:
            said = (
                f"{changed.place}: {changed.changes:.1f} points got another top class, allowed are {self.max_slice_changes:g}"
            )
            return Failed(Gate.SLICES, said)
        return None

    def score(self, before: float, after: float) -> Failed | None:
        """Not too much below what PyTorch got."""
        loss = (before - after) * 100
        if loss <= self.max_loss:
            return None
        return Failed(
            Gate.SCORE, f"{after:.4f}, PyTorch {before:.4f}: a loss of {loss:.2f} points, allowed are {self.max_loss:g}"
        )

    def memory(self, n_bytes: int) -> Failed | None:
        """Of a process that runs its largest batch."""
        if self.max_memory_bytes is None or n_bytes <= self.max_memory_bytes:
            return None
        return Failed(Gate.MEMORY, f"{n_bytes / 1e6:.0f} MB resident, allowed are {self.max_memory_bytes / 1e6:.0f} MB")


def wanted_at_look(size: float, rows_per_s: float) -> float:
    """How many times the plain export's speed a candidate needs at some batch, at a first look. `size`: how many times as large as the
    plain export it is; `rows_per_s`: the most that was seen of it. What is clearly smaller may win without being faster."""
    if size * CLEARLY_SMALLER > 1:
        return 1.0
    return _NOT_SLOWER if rows_per_s < FRONT_END_ROWS_PER_S else 0.0


def look(ratios: Mapping[str, float], others: Mapping[str, Mapping[str, float]], wanted: float = 1.0) -> Failed | None:
    """The first look at speed. `ratios`: by batch, how many times the plain export's speed; `others`: the same of other candidates,
    by name; `wanted`: of wanted_at_look. Failed when there is no batch at which it reaches that, or one of the others is clearly quicker
    at every batch, unless its speed does not matter."""
    best = max(ratios.values())
    if best < wanted:
        return Failed(Gate.LOOK, f"slower than the plain export at every batch, {best:.2f} times its speed at best")
    for name, theirs in others.items() if wanted else ():
        if all(ratios[batch] * _CLEARLY < theirs[batch] for batch in ratios):
            factor = min(theirs[batch] / ratios[batch] for batch in ratios)
            return Failed(Gate.LOOK, f"{name} is at least {factor:.2f} times as fast at every batch")
    return None


_NOT_SLOWER = 0.9
_CLEARLY = 1.25
"""A first look is short: smaller differences are left to the full profile."""
