"""Every metric name, label and bucket. Children are bound per model version once, never looked up per request."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from server.core.types import Close, Drift, Failure, ModelKey, Refusal
from server.errors import BadText, EngineLost, RateLimited
from server.runtime.clock import Clock
from server.telemetry.card_metrics import CardCollector, Reading
from server.telemetry.generating_metrics import GeneratingMetrics
from server.telemetry.histogram import Histogram
from server.telemetry.window import SlidingWindow

LABELS = ("model", "version")
SECONDS = (
    0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2,
    0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0,
)  # fmt: skip
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
SHARES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75)


class Metrics:
    """The registry of one server and its metrics."""

    def __init__(self, clock: Clock) -> None:
        self.registry = CollectorRegistry()
        self._clock = clock
        self._models: dict[ModelKey, ModelMetrics] = {}

        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(name, text, LABELS, buckets, self.registry)

        self.request_seconds = histogram("ferry_request_seconds", "From arrival to answer, answered requests", SECONDS)
        self.tokenize_seconds = histogram("ferry_tokenize_seconds", "From a text's arrival to its tokens", SECONDS)
        self.queue_seconds = histogram(
            "ferry_queue_seconds", "From arrival (of texts: from their tokens) to the start of the batch", SECONDS
        )
        self.compute_seconds = histogram("ferry_compute_seconds", "Time of a batch in the model", SECONDS)
        self.batch_rows = histogram("ferry_batch_rows", "Rows of a batch", ROWS)
        self.padding_share = histogram("ferry_padding_share", "Share of a batch that is padding", SHARES)
        self.batches = Counter("ferry_batches", "Batches by the reason they closed", (*LABELS, "close"), registry=self.registry)
        self.refused = Counter("ferry_refused", "Refused requests by reason", (*LABELS, "reason"), registry=self.registry)
        self.failed = Counter("ferry_failed", "Failed requests by reason", (*LABELS, "reason"), registry=self.registry)
        self.late = Counter("ferry_late", "Answers that came after their deadline", LABELS, registry=self.registry)
        self.recordings = Counter(
            "ferry_recordings", "Flight recordings written by reason", ("reason",), registry=self.registry
        )
        self.generating = GeneratingMetrics(self.registry, LABELS, SECONDS)
        self.cancelled = Counter("ferry_cancelled", "Requests whose client went away", LABELS, registry=self.registry)
        self.registry.register(_GaugeCollector(self._models, clock))
        ProcessCollector(
            registry=self.registry
        )  # process_*: memory, processor time, files, start, as every exporter names them

    def open(self, key: ModelKey) -> ModelMetrics:
        """Bind all children of a model version."""
        self._models[key] = ModelMetrics(self, key)
        return self._models[key]

    def watch_card(self, read: Callable[[], Reading]) -> Callable[[], None]:
        """Export a card's metrics until the result is called; `read` is called at each scrape, in its thread."""
        collector = CardCollector(read)
        self.registry.register(collector)
        return lambda: self.registry.unregister(collector)

    def recorded(self, reason: str) -> None:
        """A flight recording was written."""
        self.recordings.labels(reason).inc()

    def close(self, key: ModelKey) -> None:
        """Forget a version's gauges; its counters stay, as Prometheus expects of counters."""
        del self._models[key]
        self.generating.close(key)


class Objective(Enum):
    """What a promised time is of; `value` is the metric label."""

    ANSWER = "answer"  # from arrival to the whole answer
    FIRST_TOKEN = "first_token"  # from arrival
    TOKEN_GAP = "token_gap"  # each token after another


class Forecast(Protocol):
    """What the scheduler expects of batches or steps, against their profile."""

    @property
    def ratio(self) -> float: ...
    @property
    def guard(self) -> float: ...
    @property
    def drift(self) -> Drift: ...
    @property
    def profile_error(self) -> float: ...
    @property
    def error(self) -> float: ...


class Forecasting(Protocol):
    """Who has such a forecast, which may be replaced by another one."""

    @property
    def forecast(self) -> Forecast: ...


class ModelMetrics:
    """The bound children of one model version."""

    def __init__(self, metrics: Metrics, key: ModelKey) -> None:
        labels = (key.name, str(key.version))
        self.window = SlidingWindow()
        self.request_seconds = metrics.request_seconds.labels(*labels)
        self.tokenize_seconds = metrics.tokenize_seconds.labels(*labels)
        self.queue_seconds = metrics.queue_seconds.labels(*labels)
        self.compute_seconds = metrics.compute_seconds.labels(*labels)
        self.batch_rows = metrics.batch_rows.labels(*labels)
        self.padding_share = metrics.padding_share.labels(*labels)
        self.late = metrics.late.labels(*labels)
        self.cancelled = metrics.cancelled.labels(*labels)
        self.n_in_flight = 0
        self.lane: Forecasting | None = None
        self.source: str | None = None
        self.promised: Mapping[Objective, float] = {}
        self.n_instances: int | None = None
        self.batches = {close: metrics.batches.labels(*labels, close.value) for close in Close}
        refusals = {why.value: metrics.refused.labels(*labels, why.value) for why in Refusal}
        failures = {why.value: metrics.failed.labels(*labels, why.value) for why in Failure}
        refusals[RateLimited.label] = metrics.refused.labels(*labels, RateLimited.label)
        self.ended = (
            refusals | failures | {label: metrics.failed.labels(*labels, label) for label in (BadText.label, EngineLost.label)}
        )


class _GaugeCollector(Collector):
    """What is so now: requests in flight; how far the device is from its profile; p50, p99 and throughput over the last 30 s, so that
    they can be read without PromQL."""

    def __init__(self, models: dict[ModelKey, ModelMetrics], clock: Clock) -> None:
        self._models = models
        self._clock = clock

    def collect(self) -> Iterable[GaugeMetricFamily]:
        in_flight = GaugeMetricFamily("ferry_in_flight", "Requests without an outcome yet", labels=LABELS)
        p50 = GaugeMetricFamily("ferry_request_p50_seconds", "Median latency, last 30 s", labels=LABELS)
        p99 = GaugeMetricFamily("ferry_request_p99_seconds", "99th percentile latency, last 30 s", labels=LABELS)
        rate = GaugeMetricFamily("ferry_requests_per_second", "Answered requests per second, last 30 s", labels=LABELS)
        ratio = GaugeMetricFamily("ferry_profile_ratio", "Measured time of batches or steps ÷ the profile's", labels=LABELS)
        guard = GaugeMetricFamily("ferry_profile_guard", "Time of a slow batch or step ÷ the expected one", labels=LABELS)
        drift = GaugeMetricFamily(
            "ferry_profile_drift", "1: the device left its profile for good", labels=(*LABELS, "direction")
        )
        error = GaugeMetricFamily(
            "ferry_profile_error", "Mean of |measured ÷ expected - 1|, recent batches", labels=(*LABELS, "expected_by")
        )
        source = GaugeMetricFamily("ferry_profile_source", "1: where the expected times are from", labels=(*LABELS, "source"))
        slo = GaugeMetricFamily("ferry_slo_seconds", "The time that is promised", labels=(*LABELS, "objective"))
        instances = GaugeMetricFamily("ferry_instances", "Batches or steps that can run at a time", labels=LABELS)
        loads = sorted(self._models.items(), key=lambda item: item[0])
        newest = {key[:2]: model for key, model in loads}
        for (name, version), model in newest.items():
            summary = model.window.summary(self._clock())
            labels = [name, str(version)]
            in_flight.add_metric(labels, sum(one.n_in_flight for key, one in loads if key[:2] == (name, version)))
            p50.add_metric(labels, summary.p50_s)
            p99.add_metric(labels, summary.p99_s)
            rate.add_metric(labels, summary.rate)
            for objective, seconds in model.promised.items():
                slo.add_metric([*labels, objective.value], seconds)
            if model.n_instances is not None:
                instances.add_metric(labels, model.n_instances)
            if model.source is not None:
                source.add_metric([*labels, model.source], 1)
            if model.lane is not None:
                forecast = model.lane.forecast
                ratio.add_metric(labels, forecast.ratio)
                guard.add_metric(labels, forecast.guard)
                error.add_metric([*labels, "profile"], forecast.profile_error)
                error.add_metric([*labels, "forecast"], forecast.error)
                for direction in (Drift.SLOWER, Drift.FASTER):
                    drift.add_metric([*labels, direction.value], forecast.drift is direction)
        return (in_flight, p50, p99, rate, ratio, guard, error, drift, source, slo, instances)
