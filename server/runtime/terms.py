"""On which terms a version is served: what follows from its manifest, what its owner wants, and its measured profiles. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from server.contract.device import Device
from server.contract.manifest import Manifest
from server.contract.profile import Placement, Profile
from server.contract.profiles import Profiles
from server.contract.wants import Wants
from server.core.costs import CostTable, Unmeasured
from server.core.types import Limits, Mixing

QUEUED_SLOS = 2.0
"""How many SLOs' worth of work may wait: more could never be answered in time."""

QUEUED_BATCHES = 64
"""While nothing is known of what batches take, so many full ones may wait."""

BRIEF_S = 0.0003
"""A batch that is expected to take less than this runs on the event loop, on a CPU: two changes of thread and the wait for the
interpreter lock cost a batch some 100 µs, and nobody notices a loop that is busy for so short a time (decision 28)."""

CPU = "cpu"
"""The device that all models share whose instances are threads. Those whose largest batch is brief have it to
themselves, one by one, for so short a time that nothing is gained by planning it."""

CARD = "card"
"""The device that all models share whose batches a graphics card calculates; ferry uses one card. Their instances only wait for it."""

CARD_INSTANCES = 2
"""Batches in flight on a card while nothing is known of a model: one is copied while the other one is calculated."""


class Source(Enum):
    """Where a model's costs are from; `value` is the metric label."""

    PUBLISHED = "published"  # the version's own profile, measured on such a machine
    CACHED = "cached"  # measured by a server on this machine before
    MEASURED = "measured"  # by this one, since the model was loaded
    LEARNING = "learning"  # none of these yet: from the batches that run


@dataclass(frozen=True, slots=True)
class Terms:
    """What the scheduler and the runtime need to know of a version. `profile`: None while it is learnt. `inline`: all its
    batches are brief, and run on the event loop. `device`: what it shares with other models; None: nothing. `why`: how the placement was chosen."""

    profile: Profile | None
    source: Source
    placement: Placement
    why: str
    costs: CostTable | Unmeasured
    limits: Limits
    mixing: Mixing
    inline: bool
    device: str | None

    @property
    def fastest_s(self) -> float:
        """The least that a request's batch may take; 0.0 while that is not known."""
        return 0.0 if isinstance(self.costs, Unmeasured) else self.costs.batch_s(1, 0)


def terms_of(manifest: Manifest, wants: Wants, profiles: Profiles, source: Source = Source.PUBLISHED) -> Terms:
    """The terms by what was measured on such a machine, with the experts' overrides."""
    chosen = profiles.choose(wants, manifest.max_rows, profiles.device.cores)
    profile, max_rows = chosen.profile, _max_rows(manifest, wants)
    on_card = profile.device.accelerator is not None
    costs = CostTable(profile, max_rows, brief_s=0.0 if on_card else BRIEF_S)
    inline = costs.is_brief(max_rows, profile.measured_lengths[-1])
    limits = Limits(max_rows, _queue_rows(wants, profile, chosen.placement, max_rows), ahead=0 if inline else 1)
    device = None if inline else shared_device(profile.device)
    return Terms(profile, source, chosen.placement, chosen.why, costs, limits, mixing_of(manifest), inline, device)


def terms_to_learn(manifest: Manifest, wants: Wants, here: Device, elsewhere: Profiles | None) -> Terms:
    """The terms where no profile of such a machine is known. `elsewhere`: what was measured on another one, which says at most
    whether the model gains from many threads or from many instances."""
    cores, placement = here.cores, Placement(1, here.cores)
    why = f"{placement}: all cores for one batch until more is known"
    if here.accelerator is not None:
        placement = Placement(CARD_INSTANCES, 1)
        why = f"{placement}: two batches in flight on the card until more is known"
    elif elsewhere is not None and elsewhere.device.accelerator is None:
        theirs = elsewhere.choose(wants, manifest.max_rows, elsewhere.device.cores).profile.placement
        placement = _alike(theirs, elsewhere.device.cores, cores)
        why = f"{placement} after {theirs} on the machine where it was measured"
    placement = Placement(wants.instances or placement.instances, wants.threads or placement.threads)
    max_rows = _max_rows(manifest, wants)
    longest = manifest.ragged.longest if manifest.ragged else 0
    limits = Limits(max_rows, QUEUED_BATCHES * max_rows * placement.instances, ahead=1)
    why = f"{placement} by model.toml" if wants.instances or wants.threads else why
    costs = Unmeasured(max_rows, longest)
    return Terms(None, Source.LEARNING, placement, why, costs, limits, mixing_of(manifest), False, shared_device(here))


def shared_device(here: Device) -> str:
    """What a model that runs on such a machine by such a backend shares with others."""
    return CPU if here.accelerator is None else CARD


def mixing_of(manifest: Manifest) -> Mixing:
    """Which requests may share a batch, by what intake found out about padding."""
    if manifest.ragged is None:
        return Mixing.ANY
    return Mixing.PADDED if manifest.ragged.mixes else Mixing.EQUAL


def _alike(theirs: Placement, their_cores: int, cores: int) -> Placement:
    """One instance on all cores, or one for each core, stays that on a machine with more or fewer."""
    if theirs.cores < min(their_cores, cores):
        return theirs
    return Placement(1, cores) if theirs.instances == 1 else Placement(cores, 1)


def _max_rows(manifest: Manifest, wants: Wants) -> int:
    return min(wants.max_rows or manifest.max_rows, manifest.max_rows)


def _queue_rows(wants: Wants, profile: Profile, at: Placement, max_rows: int) -> int:
    """From the peak rate at the shortest length; never less than a few batches, so that a burst finds room."""
    peak = profile.peak_rate(profile.measured_lengths[0])
    return max(4 * max_rows * at.instances, int(QUEUED_SLOS * wants.classes.longest_slo_s * peak))
