"""A model version that is loaded: what disk says about it, what the scheduler needs, and its live parts."""

from __future__ import annotations

from server.backends.base import Session
from server.contract.layout import MANIFEST, VersionFiles
from server.contract.profile import Placement, Profile
from server.contract.wants import Wants
from server.core.costs import CostTable
from server.core.types import Limits, Mixing, ModelKey
from server.intake.texts import TextReader
from server.runtime.assemble import Assembler
from server.telemetry.model_stats import ModelStats

QUEUED_SLOS = 2.0
"""How many SLOs' worth of work may wait: more could never be answered in time."""


INLINE_S = 0.0003
"""A model whose largest batch takes less than this at p99 runs on the event loop: two changes of thread and the wait
for the interpreter lock cost a batch some 100 µs, and nobody notices a loop that is busy for so short a time."""

CPU = "cpu"
"""The device that all models share whose instances are threads. Those on the event loop have it to themselves, one by one, for
so short a time that nothing is gained by planning it."""


class ServedModel:
    """Everything about one loaded version. It does not change."""

    def __init__(
        self, key: ModelKey, files: VersionFiles, wants: Wants, profile: Profile, session: Session, stats: ModelStats,
        reader: TextReader | None = None,
    ) -> None:  # fmt: skip
        """`reader`: makes the inputs from text; None for a version that takes tensors only."""
        self.key = key
        self.manifest = files.manifest
        self.slo_s = wants.slo_s
        self.classes = wants.classes
        self.profile = profile
        self.placement = placement(wants, profile)
        self.session = session
        self.stats = stats
        self.reader = reader
        self.published_at = int((files.folder / MANIFEST).stat().st_mtime)  # of the calendar, in seconds
        self.max_rows = min(wants.max_rows or files.manifest.max_rows, files.manifest.max_rows)
        self.costs = CostTable(profile, self.max_rows)
        self.fastest_s = self.costs.batch_s(1, 0)
        self.shortest = files.manifest.ragged.shortest if files.manifest.ragged else 0
        self.inline = profile.predict_p99(self.max_rows, profile.measured_lengths[-1]) < INLINE_S
        self.limits = Limits(self.max_rows, self._queue_rows(), ahead=0 if self.inline else 1)
        self.device = None if self.inline else CPU
        self.mixing = _mixing(files.manifest.ragged.mixes if files.manifest.ragged else None)
        self.assembler = Assembler(files.manifest)

    def _queue_rows(self) -> int:
        """From the peak rate at the shortest length; never less than a few batches, so that a burst finds room."""
        peak = self.profile.peak_rate(self.profile.measured_lengths[0])
        return max(4 * self.max_rows * self.placement.instances, int(QUEUED_SLOS * self.classes.longest_slo_s * peak))


def placement(wants: Wants, profile: Profile) -> Placement:
    """The measured placement, with the experts' overrides."""
    measured = profile.placement
    return Placement(wants.instances or measured.instances, wants.threads or measured.threads)


def _mixing(mixes: bool | None) -> Mixing:
    if mixes is None:
        return Mixing.ANY
    return Mixing.PADDED if mixes else Mixing.EQUAL
