"""When is something wrong that somebody will want to look into? Looked at once a second, never per request."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from server.core.types import Drift, ModelKey
from server.telemetry.model_stats import Outcomes

LOOK_EVERY_S = 1.0

RUN_SHARE = 0.05
RUN_LEAST = 10
"""A run of refusals (or of late answers) begins when, from one look to the next, so large a share of a model's outcomes are, and
at least so many."""

CALM_S = 30.0
"""It is sudden, and so an anomaly, when there was none for so long: a server that is overloaded for an hour is told of once."""


class Anomaly(Enum):
    """What was noticed; `value` is the metric label and part of the file's name."""

    INSTANCE_LOST = "instance_lost"
    DRIFT = "drift"
    REFUSED = "refused"
    LATE = "late"


class Seen(NamedTuple):
    """What one look sees of a model."""

    model: ModelKey
    outcomes: Outcomes
    drift: Drift


@dataclass(slots=True)
class _Past:
    outcomes: Outcomes
    drift: Drift
    run_at: dict[Anomaly, float] = field(default_factory=dict)


class Watch:
    """Remembers what it saw last."""

    def __init__(self) -> None:
        self._past: dict[ModelKey, _Past] = {}

    def look(self, models: Iterable[Seen], now: float) -> list[tuple[Anomaly, ModelKey]]:
        """What is wrong that was not before."""
        found: list[tuple[Anomaly, ModelKey]] = []
        known, self._past = self._past, {}
        for seen in models:
            past = known.get(seen.model) or _Past(Outcomes(0, 0, 0, 0), Drift.NONE)
            found += [(anomaly, seen.model) for anomaly in _anomalies(seen, past, now)]
            self._past[seen.model] = _Past(seen.outcomes, seen.drift, past.run_at)
        return found


def _anomalies(seen: Seen, past: _Past, now: float) -> Iterable[Anomaly]:
    answered, late, refused, lost = [new - old for new, old in zip(seen.outcomes, past.outcomes, strict=True)]
    if lost:
        yield Anomaly.INSTANCE_LOST
    if seen.drift not in (past.drift, Drift.NONE):
        yield Anomaly.DRIFT
    for anomaly, count in ((Anomaly.REFUSED, refused), (Anomaly.LATE, late)):
        if count >= RUN_LEAST and count >= RUN_SHARE * (answered + refused):
            if now - past.run_at.get(anomaly, float("-inf")) > CALM_S:
                yield anomaly
            past.run_at[anomaly] = now
