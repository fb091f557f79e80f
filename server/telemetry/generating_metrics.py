"""Names, labels and buckets of the metrics that only models that generate have. Children are bound per model version once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from server.core.types import ModelKey
from server.telemetry.histogram import Histogram

_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Occupation(Protocol):
    """How full a generating model is at this moment."""

    @property
    def n_waiting(self) -> int:
        """Requests without a slot."""

    @property
    def n_resident(self) -> int:
        """Requests that have one."""

    @property
    def n_slots(self) -> int:
        """Of all instances that live."""

    @property
    def n_kept(self) -> int:
        """Tokens of prompts that the slots keep, those of requests before included."""


class GeneratingMetrics:
    """All of one server's."""

    def __init__(self, registry: CollectorRegistry, labels: tuple[str, ...], seconds: tuple[float, ...]) -> None:
        self._open: dict[ModelKey, Occupation] = {}

        def counter(name: str, text: str) -> Counter:
            return Counter(name, text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(name, text, labels, buckets, registry)

        self.first_seconds = histogram("ferry_first_token_seconds", "From arrival to the first token", seconds)
        self.gap_seconds = histogram("ferry_token_gap_seconds", "Between two tokens of an answer", seconds)
        self.step_seconds = histogram("ferry_step_seconds", "Time of a step", seconds)
        self.step_rows = histogram("ferry_step_rows", "Answers that got a token in a step", _ROWS)
        self.tokens_in = counter("ferry_prompt_tokens", "Tokens of prompts, known ones included, whose first token came")
        self.tokens_out = counter("ferry_generated_tokens", "Tokens of answers")
        self.tokens_known = counter(
            "ferry_known_prompt_tokens", "Tokens of prompts that a slot kept and that were not read again"
        )
        self.prefix_hits = counter("ferry_prefix_hits", "Prompts of which something was known")
        self.idle_rows = counter("ferry_idle_rows", "Rows of steps that were calculated for nobody")
        self.late_gaps = counter("ferry_late_gaps", "Tokens that came later after another than was promised")
        registry.register(_Occupations(self._open, labels))

    def bind(self, key: ModelKey, occupation: Occupation) -> BoundGenerating:
        """The children of one model version, and the gauges for as long as it is open."""
        self._open[key] = occupation
        return BoundGenerating(self, (key.name, str(key.version)))

    def close(self, key: ModelKey) -> None:
        """Forget a version's gauges."""
        self._open.pop(key, None)


class BoundGenerating:
    """Of one model version."""

    def __init__(self, metrics: GeneratingMetrics, labels: tuple[str, ...]) -> None:
        self.first_seconds = metrics.first_seconds.labels(*labels)
        self.gap_seconds = metrics.gap_seconds.labels(*labels)
        self.step_seconds = metrics.step_seconds.labels(*labels)
        self.step_rows = metrics.step_rows.labels(*labels)
        self.tokens_in = metrics.tokens_in.labels(*labels)
        self.tokens_out = metrics.tokens_out.labels(*labels)
        self.tokens_known = metrics.tokens_known.labels(*labels)
        self.prefix_hits = metrics.prefix_hits.labels(*labels)
        self.idle_rows = metrics.idle_rows.labels(*labels)
        self.late_gaps = metrics.late_gaps.labels(*labels)


class _Occupations(Collector):
    """Loads of the same version (it may be loaded anew while the old one goes on) count together."""

    def __init__(self, open_models: dict[ModelKey, Occupation], labels: tuple[str, ...]) -> None:
        self._open = open_models
        self._labels = labels

    def collect(self) -> Iterable[GaugeMetricFamily]:
        gauges = {
            "n_waiting": GaugeMetricFamily("ferry_waiting", "Generating requests without a slot", labels=self._labels),
            "n_resident": GaugeMetricFamily("ferry_slots_used", "Slots in use", labels=self._labels),
            "n_slots": GaugeMetricFamily("ferry_slots", "Slots there are", labels=self._labels),
            "n_kept": GaugeMetricFamily("ferry_kept_tokens", "Tokens of prompts that slots keep", labels=self._labels),
        }
        sums: dict[tuple[str, str], dict[str, int]] = {}
        for key, one in list(self._open.items()):
            mine = sums.setdefault((key.name, str(key.version)), dict.fromkeys(gauges, 0))
            for name, value in (
                ("n_waiting", one.n_waiting), ("n_resident", one.n_resident), ("n_slots", one.n_slots), ("n_kept", one.n_kept),
            ):  # fmt: skip
                mine[name] += value
        for labels, values in sums.items():
            for name, value in values.items():
                gauges[name].add_metric(labels, value)
        return list(gauges.values())
