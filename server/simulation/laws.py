"""Profiles with a known law, l(b) = alpha·b + beta, and what a device really does beside them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from server.contract.device import Device
from server.contract.profile import Cell, Placement, Profile
from server.core.costs import HAND_OFF_S, CostTable

DEVICE = Device("virtual", 2, "virtual 1")

ROWS = (1, 2, 4, 8, 16, 32)

Z95, Z99 = 1.645, 2.326  # of the normal distribution

Truth = Callable[[float, float], float]
"""(predicted seconds of a batch, now) → the seconds that it really takes."""


def linear_profile(
    alpha_s: float, beta_s: float, rows: Sequence[int] = ROWS, lengths: Sequence[int] = (0,), instances: int = 1, noise: float = 0.0
) -> Profile:  # fmt: skip
    """p50 = beta + alpha · rows · max(1, length), p95 and p99 as normal noise of this share of p50 gives them."""
    cells = []
    for length in lengths:
        for count in rows:
            p50_s = beta_s + alpha_s * count * max(1, length)
            p95_s, p99_s = p50_s * (1 + Z95 * noise), p50_s * (1 + Z99 * noise)
            cells.append(Cell(count, length, p50_s, p95_s, p99_s, 1, 0))
    return Profile(DEVICE, Placement(instances, 1), tuple(cells))


def linear_costs(
    alpha_s: float, beta_s: float, max_rows: int, lengths: Sequence[int] = (0,), noise: float = 0.0, factor: float = 1.0
) -> CostTable:
    """Costs by the law alone: the hand-off is part of beta. `factor`: how wrong the profile is, 1.0 = right."""
    profile = linear_profile(factor * alpha_s, factor * beta_s - HAND_OFF_S, ROWS, lengths, noise=noise)
    return CostTable(profile, max_rows)


@dataclass(frozen=True)
class LinearSteps:
    """A generating model by its law, in seconds: `step_s` + `row_s` · rows + `kept_s` · tokens kept for them, and for each chunk of a
    prompt `chunk_s` + `token_s` · tokens. Satisfies core.costs.StepCosts."""

    step_s: float
    row_s: float = 0.0
    kept_s: float = 0.0
    chunk_s: float = 1e-6
    token_s: float = 0.0
    guard: float = 1.0

    def decode_s(self, rows: int, context: int) -> float:
        return self.step_s + self.row_s * rows + self.kept_s * context

    def prefill_s(self, tokens: int) -> float:
        return self.chunk_s + self.token_s * tokens


def steady(noise: float, rnd: random.Random, factor: float = 1.0) -> Truth:
    """A device that takes `factor` times what is predicted, with normal noise of this share."""
    return lambda predicted_s, _: predicted_s * factor * max(0.5, rnd.gauss(1.0, noise))


def slowed(noise: float, rnd: random.Random, factor: float, share: float, period_s: float) -> Truth:
    """A device that is `factor` times slower in the first `share` of every period: something else runs beside it."""

    def takes(predicted_s: float, now: float) -> float:
        slow = now % period_s < share * period_s
        return predicted_s * (factor if slow else 1.0) * max(0.5, rnd.gauss(1.0, noise))

    return takes
