"""Books of one model version that generates, kept on the event loop and fed once per step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from server.core.types import ModelKey
from server.runtime.clock import calendar_ms
from server.telemetry.generating_metrics import BoundGenerating
from server.telemetry.metrics import ModelMetrics
from server.telemetry.model_stats import ModelStats


class StepTimes(NamedTuple):
    """Absolute seconds, under the names that batches have."""

    began_at: float
    joined_at: float
    computed_at: float
    ended_at: float


class Told(NamedTuple):
    """What the clients of one step were told: seconds from arrival to each first token, between each other one and the one before, from
    arrival to each last one; tokens of the prompts that have their first token by it, known ones among them, and how many had some."""

    firsts_s: Sequence[float]
    gaps_s: Sequence[float]
    whole_s: Sequence[float]
    n_read: int
    n_known: int
    n_hits: int
    n_late: int


class GeneratingStats(ModelStats):
    """Cumulative since load. In V2's statistics an inference is an answer, an execution a step; `success` lasts until the last token."""

    def __init__(self, key: ModelKey, metrics: ModelMetrics, generating: BoundGenerating, gap_s: float) -> None:
        super().__init__(key, metrics)
        self._generating = generating
        self._gap_s = gap_s

    def iterated(self, times: StepTimes, n_tokens: int, n_idle: int) -> None:
        """A step ran: so many tokens, and rows that were calculated for nobody."""
        self._tell_drift(times.ended_at)
        self._n_batches += 1
        self._generating.step_seconds.observe((times.ended_at - times.began_at,))
        self._generating.step_rows.observe((n_tokens,))
        self._generating.idle_rows.inc(n_idle)
        self._total.compute_infer.add(times.ended_at - times.began_at)

    def told(self, told: Told, now: float) -> None:
        """The clients of a step have their tokens."""
        metrics = self._generating
        metrics.tokens_out.inc(len(told.firsts_s) + len(told.gaps_s))
        metrics.gap_seconds.observe(told.gaps_s)
        late = sum([gap_s > self._gap_s for gap_s in told.gaps_s])
        if late:
            metrics.late_gaps.inc(late)
        if told.firsts_s:
            metrics.first_seconds.observe(told.firsts_s)
            metrics.tokens_in.inc(told.n_read)
            metrics.tokens_known.inc(told.n_known)
            metrics.prefix_hits.inc(told.n_hits)
            if told.n_late:
                self._n_late += told.n_late
                self._metrics.late.inc(told.n_late)
        if told.whole_s:
            self.finished(told.whole_s, now)

    def finished(self, whole_s: Sequence[float], now: float) -> None:
        """Answers are whole, so long after their requests arrived."""
        self._n_rows += len(whole_s)
        self._success.add_all(whole_s)
        self._metrics.request_seconds.observe(whole_s)
        self._metrics.window.record(whole_s, now)
        self._metrics.n_in_flight -= len(whole_s)
        self._last_inference_ms = calendar_ms()
