"""A model version that is loaded: what disk says about it, what the scheduler needs, and its live parts."""

from __future__ import annotations

from server.backends.base import Session
from server.contract.layout import MANIFEST, VersionFiles
from server.contract.profile import Profile
from server.contract.wants import Wants
from server.core.types import ModelKey
from server.intake.texts import TextReader
from server.runtime.assemble import Assembler
from server.runtime.terms import terms_of
from server.telemetry.model_stats import ModelStats


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
        self.session = session
        self.stats = stats
        self.reader = reader
        self.published_at = int((files.folder / MANIFEST).stat().st_mtime)  # of the calendar, in seconds
        terms = terms_of(files.manifest, wants, profile)
        self.profile = profile
        self.placement = terms.placement
        self.max_rows = terms.max_rows
        self.costs = terms.costs
        self.fastest_s = terms.costs.batch_s(1, 0)
        self.shortest = files.manifest.ragged.shortest if files.manifest.ragged else 0
        self.inline = terms.inline
        self.limits = terms.limits
        self.device = terms.device
        self.mixing = terms.mixing
        self.assembler = Assembler(files.manifest)
