"""A model version that is loaded: what disk says about it, what the scheduler needs, and its live parts."""

from __future__ import annotations

from server.backends.base import Session
from server.contract.layout import MANIFEST, VersionFiles
from server.contract.text import TextCost
from server.contract.wants import Wants
from server.core.types import ModelKey
from server.intake.texts import TextReader
from server.runtime.assemble import Assembler
from server.runtime.terms import Terms
from server.telemetry.metrics import Objective
from server.telemetry.model_stats import ModelStats


class ServedModel:
    """Everything about one loaded version. Only its terms change, when its batches have been measured."""

    def __init__(
        self, key: ModelKey, files: VersionFiles, wants: Wants, terms: Terms, session: Session, stats: ModelStats,
        reader: TextReader | None = None, text: TextCost | None = None,
    ) -> None:  # fmt: skip
        """`reader`: makes the inputs from text, at the cost `text`; None for a version that takes tensors only."""
        self.key = key
        self.manifest = files.manifest
        self.slo_s = wants.slo_s
        self.classes = wants.classes
        self.session = session
        self.stats = stats
        self.reader = reader
        self.text = text
        self.published_at = int((files.folder / MANIFEST).stat().st_mtime)  # of the calendar, in seconds
        self.shortest = files.manifest.ragged.shortest if files.manifest.ragged else 0
        self.assembler = Assembler(files.manifest)
        self.max_rows = terms.limits.batch_rows
        self.placement = terms.placement
        self.inline = terms.inline
        stats.promise({Objective.ANSWER: wants.slo_s}, terms.placement.instances)
        self.adopt(terms)

    def adopt(self, terms: Terms) -> None:
        """Serve on these terms, at the same placement."""
        assert (terms.placement, terms.inline) == (self.placement, self.inline), "another placement takes another session"
        self.terms = terms
        self.limits = terms.limits
        self.fastest_s = terms.fastest_s
        self.stats.costs_from(terms.source.value)
