"""Books of one model version, kept on the event loop: V2 statistics and the bound metrics, fed once per batch."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from server.core.types import Close, Drift, InferRequest, ModelKey
from server.errors import FerryError, Refused
from server.runtime.clock import calendar_ms
from server.telemetry.metrics import Forecasting, ModelMetrics, Objective

log = logging.getLogger(__name__)

TELL_DRIFT_EVERY_S = 600.0
"""At most so often is it told in the log that the device left its profile; the metric always says it."""


class Step(Protocol):
    """What the books need to know of a finished batch; times are absolute seconds."""

    @property
    def began_at(self) -> float: ...
    @property
    def joined_at(self) -> float: ...
    @property
    def computed_at(self) -> float: ...
    @property
    def ended_at(self) -> float: ...


class Outcomes(NamedTuple):
    """Since a model was loaded: requests answered, those of them that were late, those refused; instances that died."""

    answered: int
    late: int
    refused: int
    instances_lost: int


@dataclass(slots=True)
class Duration:
    """A V2 statistic: how many, and nanoseconds in all."""

    count: int = 0
    seconds: float = 0.0

    def add(self, seconds: float, count: int = 1) -> None:
        self.count += count
        self.seconds += seconds * count

    def add_all(self, seconds: Sequence[float]) -> None:
        self.count += len(seconds)
        self.seconds += sum(seconds)

    def to_json(self) -> dict[str, int]:
        return {"count": self.count, "ns": round(self.seconds * 1e9)}


@dataclass(slots=True)
class _BatchSize:
    compute_input: Duration = field(default_factory=Duration)
    compute_infer: Duration = field(default_factory=Duration)
    compute_output: Duration = field(default_factory=Duration)


class ModelStats:
    """Cumulative since load. All methods are called on the event loop."""

    def __init__(self, key: ModelKey, metrics: ModelMetrics) -> None:
        self._key = key
        self._metrics = metrics
        self._last_inference_ms = 0
        self._drift_told = Drift.NONE
        self._drift_told_at = float("-inf")
        self._n_rows = 0
        self._n_batches = 0
        self._n_late = 0
        self._n_refused = 0
        self._n_lost = 0
        self._success, self._fail, self._queue = Duration(), Duration(), Duration()
        self._total = _BatchSize()
        self._by_size: dict[int, _BatchSize] = {}

    @property
    def outcomes(self) -> Outcomes:
        """The sums of what follows."""
        return Outcomes(self._success.count, self._n_late, self._n_refused, self._n_lost)

    def follow(self, lane: Forecasting) -> None:
        """Show what the scheduler expects of batches or steps, and how that changes."""
        self._metrics.lane = lane

    def promise(self, objectives: Mapping[Objective, float], n_instances: int) -> None:
        """Show what is promised, in seconds, and with how many instances."""
        self._metrics.promised = objectives
        self._metrics.n_instances = n_instances

    def costs_from(self, source: str) -> None:
        """Show what the expectations rest on."""
        self._metrics.source = source
        self._drift_told = Drift.NONE

    def arrived(self) -> None:
        """One request more without an outcome."""
        self._metrics.n_in_flight += 1

    def prepared(self, seconds: Sequence[float]) -> None:
        """So many texts have their tokens, so long after each arrived; in V2's words that is a part of compute_input."""
        self._metrics.tokenize_seconds.observe(seconds)

    def stepped(self, step: Step, close: Close, rows: int, padded_share: float) -> None:
        """A batch ran through the model."""
        self._metrics.batches[close].inc()
        self._metrics.batch_rows.observe((rows,))
        self._metrics.padding_share.observe((padded_share,))
        self._metrics.compute_seconds.observe((step.computed_at - step.joined_at,))
        self._tell_drift(step.ended_at)
        self._n_batches += 1
        self._n_rows += rows
        self._add_compute(self._by_size.setdefault(rows, _BatchSize()), step, 1)

    def answered(self, requests: Sequence[InferRequest[Any]], step: Step, now: float) -> None:
        """These requests got their answers from `step`. Their payloads say what they were allowed, and how long their arrays were in the making."""
        metrics, began_at = self._metrics, step.began_at
        latencies_s, queued_s, made_s, n_late = [], [], 0.0, 0
        for request in requests:  # one loop: it runs for every request of a server
            work, arrived_at = request.payload, request.arrived_at
            latency_s = now - arrived_at
            latencies_s.append(latency_s)
            queued_s.append(began_at - arrived_at - work.prepared_s)
            made_s += work.prepared_s
            if latency_s > work.allowed_s:
                n_late += 1
        metrics.request_seconds.observe(latencies_s)
        metrics.queue_seconds.observe(queued_s)
        metrics.window.record(latencies_s, now)
        if n_late:
            self._n_late += n_late
            metrics.late.inc(n_late)
        self._success.add_all(latencies_s)
        self._queue.add_all(queued_s)
        self._total.compute_input.seconds += made_s
        self._add_compute(self._total, step, len(requests))
        metrics.n_in_flight -= len(requests)
        self._last_inference_ms = calendar_ms()

    def ended(self, arrived_at: float, error: FerryError, now: float) -> None:
        """A request that arrived then was refused or failed."""
        self._metrics.ended[error.label].inc()
        self._metrics.n_in_flight -= 1
        self._n_refused += isinstance(error, Refused)
        self._fail.add(now - arrived_at)

    def turned_away(self, label: str, count: int, waited_s: float) -> None:
        """So many requests were refused unread, after `waited_s` in all."""
        self._metrics.ended[label].inc(count)
        self._n_refused += count
        self._fail.add(waited_s / count, count)

    def instance_lost(self) -> None:
        """An instance died; the requests of its batch are told of one by one."""
        self._n_lost += 1

    def cancelled(self) -> None:
        """A request's client went away."""
        self._metrics.cancelled.inc()
        self._metrics.n_in_flight -= 1

    def to_json(self) -> dict[str, Any]:
        """One entry of V2's model_stats."""
        return {
            "name": self._key.name,
            "version": str(self._key.version),
            "last_inference": self._last_inference_ms,
            "inference_count": self._n_rows,
            "execution_count": self._n_batches,
            "inference_stats": {
                "success": self._success.to_json(),
                "fail": self._fail.to_json(),
                "queue": self._queue.to_json(),
                **_compute_json(self._total),
                "cache_hit": Duration().to_json(),
                "cache_miss": Duration().to_json(),
            },
            "response_stats": {},
            "batch_stats": [{"batch_size": rows, **_compute_json(self._by_size[rows])} for rows in sorted(self._by_size)],
            "memory_usage": [],
        }

    def _tell_drift(self, now: float) -> None:
        """When the alarm goes on, but not again soon: a device between two moods would fill the log. When it goes off, if it was told."""
        lane = self._metrics.lane
        if lane is None or lane.forecast.drift is self._drift_told:
            return
        drift = lane.forecast.drift
        if drift is Drift.NONE:
            self._drift_told = drift
            log.info("%s: the device keeps to the profile again", self._key)
        elif now - self._drift_told_at >= TELL_DRIFT_EVERY_S:
            self._drift_told, self._drift_told_at = drift, now
            log.warning(
                "%s: the device is %s than the profile says: it takes %.2f times as long. The scheduler corrects for it; if it "
                "stays so, look what else runs here, or measure again: `ferry optimize --force` with an empty --cache",
                self._key, drift.value, lane.forecast.ratio,
            )  # fmt: skip

    def _add_compute(self, total: _BatchSize, step: Step, count: int) -> None:
        total.compute_input.add(step.joined_at - step.began_at, count)
        total.compute_infer.add(step.computed_at - step.joined_at, count)
        total.compute_output.add(step.ended_at - step.computed_at, count)


def all_stats(models: Iterable[ModelStats]) -> dict[str, Any]:
    """The body of a V2 statistics reply."""
    return {"model_stats": [model.to_json() for model in models]}


def _compute_json(part: _BatchSize) -> dict[str, dict[str, int]]:
    return {
        "compute_input": part.compute_input.to_json(),
        "compute_infer": part.compute_infer.to_json(),
        "compute_output": part.compute_output.to_json(),
    }
