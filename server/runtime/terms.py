"""On which terms a version is served: what follows from its manifest, what its owner wants, and its measured profile. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from server.contract.manifest import Manifest
from server.contract.profile import Placement, Profile
from server.contract.wants import Wants
from server.core.costs import CostTable
from server.core.types import Limits, Mixing

QUEUED_SLOS = 2.0
"""How many SLOs' worth of work may wait: more could never be answered in time."""

INLINE_S = 0.0003
"""A model whose largest batch takes less than this at p99 runs on the event loop: two changes of thread and the wait
for the interpreter lock cost a batch some 100 µs, and nobody notices a loop that is busy for so short a time."""

CPU = "cpu"
"""The device that all models share whose instances are threads. Those on the event loop have it to themselves, one by one, for
so short a time that nothing is gained by planning it."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What the scheduler and the runtime need to know of a version. `inline`: its batches run on the event loop.
    `device`: what it shares with other models; None: nothing."""

    profile: Profile
    placement: Placement
    costs: CostTable
    limits: Limits
    mixing: Mixing
    inline: bool
    device: str | None

    @property
    def max_rows(self) -> int:
        """Rows of the largest batch."""
        return self.limits.batch_rows


def terms_of(manifest: Manifest, wants: Wants, profile: Profile) -> Terms:
    """The terms by the published measurements, with the experts' overrides."""
    at = placement(wants, profile)
    max_rows = min(wants.max_rows or manifest.max_rows, manifest.max_rows)
    inline = profile.predict_p99(max_rows, profile.measured_lengths[-1]) < INLINE_S
    limits = Limits(max_rows, _queue_rows(wants, profile, at, max_rows), ahead=0 if inline else 1)
    return Terms(profile, at, CostTable(profile, max_rows), limits, mixing_of(manifest), inline, None if inline else CPU)


def placement(wants: Wants, profile: Profile) -> Placement:
    """The measured placement, with the experts' overrides."""
    measured = profile.placement
    return Placement(wants.instances or measured.instances, wants.threads or measured.threads)


def mixing_of(manifest: Manifest) -> Mixing:
    """Which requests may share a batch, by what intake found out about padding."""
    if manifest.ragged is None:
        return Mixing.ANY
    return Mixing.PADDED if manifest.ragged.mixes else Mixing.EQUAL


def _queue_rows(wants: Wants, profile: Profile, at: Placement, max_rows: int) -> int:
    """From the peak rate at the shortest length; never less than a few batches, so that a burst finds room."""
    peak = profile.peak_rate(profile.measured_lengths[0])
    return max(4 * max_rows * at.instances, int(QUEUED_SLOS * wants.classes.longest_slo_s * peak))
