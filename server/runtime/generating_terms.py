"""On which terms a version that generates is served: what follows from its manifest, what its owner wants, and its measured steps. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from server.contract.generation import Generation
from server.contract.profile import Placement
from server.contract.step_profile import StepProfile, margin
from server.contract.wants import USUAL_GAP_S, Wants
from server.core.step_costs import StepTable
from server.core.types import ResidentLimits
from server.runtime.terms import CPU, Source

CHUNK = 64
"""Prompts are cut at multiples of this: then no answer depends on where."""

QUEUED_SLOTS = 4
QUEUED_SLOS = 2.0
"""So many times the slots may wait, or as many short prompts as can be read in so many SLOs, whichever is more: who comes after them
would be refused for being late anyway."""


@dataclass(frozen=True, slots=True)
class GeneratingTerms:
    """What the scheduler and the runtime need to know of such a version. `gap_s`: promised between two tokens. `why`: how the number of
    slots came about."""

    profile: StepProfile
    source: Source
    placement: Placement
    costs: StepTable
    limits: ResidentLimits
    gap_s: float
    device: str | None
    why: str


def generating_terms(
    generation: Generation, wants: Wants, profile: StepProfile, source: Source = Source.PUBLISHED
) -> GeneratingTerms:
    """The terms by what was measured on such a machine, at the placement of the profile, with the experts' overrides."""
    costs = StepTable(profile)
    gap_s = USUAL_GAP_S if wants.gap_s is None else wants.gap_s
    slots, why = _slots(generation, wants, profile, costs, gap_s)
    queue = max(QUEUED_SLOTS * slots, int(QUEUED_SLOS * wants.classes.longest_slo_s / costs.prefill_s(CHUNK)))
    longest = generation.longest
    limits = ResidentLimits(
        slots, slots * longest, longest, step_tokens=max(CHUNK, longest), queue=queue * profile.placement.instances,
        gap_s=gap_s, chunk=CHUNK,
    )  # fmt: skip
    return GeneratingTerms(profile, source, profile.placement, costs, limits, gap_s, CPU, f"{profile.placement}, {why}")


def hopeless(terms: GeneratingTerms) -> str | None:
    """Why no request can be served as promised; None: some can."""
    alone_s = terms.costs.decode_s(1, 1)
    if alone_s > terms.gap_s:
        return (
            f"one token takes {alone_s * 1e3:.4g} ms even alone, more than the {terms.gap_s * 1e3:.4g} ms promised between two: all "
            "requests will be refused; raise gap in model.toml or use a faster model"
        )
    return None


def slots_that_keep(generation: Generation, profile: StepProfile, gap_s: float) -> int:
    """The most measured rows whose step, each with half of what a slot holds, keeps the gap even when it is slow; at least 1.

    The guard counts twice, as in core.step_forecast: a request lives through hundreds of steps.
    """
    costs = StepTable(profile)
    half = generation.longest // 2
    kept = [rows for rows in profile.measured_rows if costs.decode_s(rows, rows * half) * margin(profile.guard) <= gap_s]
    return max(kept, default=1)


def _slots(generation: Generation, wants: Wants, profile: StepProfile, costs: StepTable, gap_s: float) -> tuple[int, str]:
    if wants.slots is not None:
        return wants.slots, f"{wants.slots} slots by model.toml"
    slots = slots_that_keep(generation, profile, gap_s)
    step_s = costs.decode_s(slots, slots * generation.longest // 2)
    return slots, f"{slots} slots: a token for each takes {step_s * 1e3:.3g} ms when they are half full"
