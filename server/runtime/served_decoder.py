"""A version that generates and is loaded: what disk says about it, what the scheduler needs, and its live parts."""

from __future__ import annotations

from server.contract.layout import MANIFEST
from server.core.types import ModelKey
from server.runtime.compiled_grammars import CompiledGrammars
from server.runtime.loading_decoder import LoadedDecoder
from server.telemetry.generating_metrics import GeneratingMetrics
from server.telemetry.generating_stats import GeneratingStats
from server.telemetry.metrics import ModelMetrics, Objective


class Occupied:
    """How full a model is: what the engine and its instances tell after each step."""

    def __init__(self) -> None:
        self.n_waiting = 0
        self.n_resident = 0
        self.n_slots = 0
        self.n_kept = 0


class ServedDecoder:
    """Everything about one loaded version. It does not change. Satisfies generation.serving.GeneratingModel."""

    def __init__(self, key: ModelKey, loaded: LoadedDecoder, metrics: ModelMetrics, generating: GeneratingMetrics) -> None:
        files, wants, terms = loaded.files, loaded.wants, loaded.terms
        self.key = key
        self.manifest = files.manifest
        self.generation = loaded.generation
        self.slo_s = wants.slo_s
        self.gap_s = terms.gap_s
        self.classes = wants.classes
        self.terms = terms
        self.placement = terms.placement
        self.limits = terms.limits
        self.decoders = loaded.decoders  # one for each instance
        self.codec = loaded.codec
        self.grammars = CompiledGrammars(key, loaded.grammars)
        self.published_at = int((files.folder / MANIFEST).stat().st_mtime)  # of the calendar, in seconds
        self.occupied = Occupied()
        self.stats = GeneratingStats(key, metrics, generating.bind(key, self.occupied), terms.gap_s)
        self.stats.promise({Objective.FIRST_TOKEN: wants.slo_s, Objective.TOKEN_GAP: terms.gap_s}, len(loaded.decoders))
        self.stats.costs_from(terms.source.value)

    @property
    def max_rows(self) -> int:
        """Requests that one instance answers at a time."""
        return self.limits.slots
