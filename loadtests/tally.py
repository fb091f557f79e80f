"""Records as counts and quantiles: every scheduled request falls into exactly one count. Nothing is measured here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from loadtests.ledger import FAILED, NEVER_SENT, TIMED_OUT, Floats, Record

QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99.9": 0.999, "max": 1.0}


@dataclass(frozen=True, slots=True)
class Tally:
    """What became of `scheduled` requests. Without an SLO every answer is in it. `refused` is by "status reason"."""

    scheduled: int
    in_slo: int
    late: int
    refused: Mapping[str, int]
    failed: Mapping[str, int]
    timed_out: int
    never_sent: int

    @property
    def answered(self) -> int:
        return self.in_slo + self.late

    @property
    def n_refused(self) -> int:
        return sum(self.refused.values())

    @property
    def n_failed(self) -> int:
        return sum(self.failed.values())

    @property
    def missed(self) -> int:
        """All that were not answered in time, for whatever reason."""
        return self.scheduled - self.in_slo

    @property
    def adds_up(self) -> bool:
        return self.scheduled == self.answered + self.n_refused + self.n_failed + self.timed_out + self.never_sent


def tally(record: Record, slo_s: float | None) -> Tally:
    """Count a record against an SLO."""
    answered = record.status == 200
    in_slo = answered if slo_s is None else answered & (record.latency_s <= slo_s)
    refused = (record.status > 0) & ~answered
    return Tally(
        scheduled=len(record.status),
        in_slo=int(in_slo.sum()),
        late=int((answered & ~in_slo).sum()),
        refused=_by_reason(record, refused),
        failed=_by_reason(record, record.status == FAILED),
        timed_out=int((record.status == TIMED_OUT).sum()),
        never_sent=int((record.status == NEVER_SENT).sum()),
    )


def _by_reason(record: Record, chosen: npt.NDArray[np.bool_]) -> dict[str, int]:
    pairs = Counter(zip(record.status[chosen].tolist(), record.reason[chosen].tolist(), strict=True))
    named = ((f"{status or ''} {record.reasons[reason]}".strip(), n) for (status, reason), n in pairs.most_common())
    return {name or "unknown": n for name, n in named}


def quantiles_ms(record: Record) -> dict[str, float | None]:
    """Latency of the answers by name of the quantile."""
    answers = record.latency_s[record.status == 200]
    return {name: float(np.quantile(answers, q)) * 1e3 if answers.size else None for name, q in QUANTILES.items()}


def with_misses_ms(record: Record, q: float) -> float | None:
    """Latency that a share `q` of all scheduled requests was answered within; None if fewer were answered at all."""
    latency_s = np.where(record.status == 200, record.latency_s, np.inf)
    found = float(np.quantile(latency_s, q, method="inverted_cdf")) if latency_s.size else np.inf
    return found * 1e3 if found < np.inf else None


def part(record: Record, chosen: npt.NDArray[np.bool_]) -> Record:
    """Some of a record's requests."""
    return Record(
        record.due_s[chosen],
        record.sent_s[chosen],
        record.done_s[chosen],
        record.status[chosen],
        record.reason[chosen],
        record.held_back[chosen],
        record.reasons,
    )


@dataclass(frozen=True, slots=True)
class Punctuality:
    """How well the generator kept its schedule. `late` went out more than `tolerance_s` after they were due.

    `held_back` are late for want of a free connection, which is the server's slowness or the limit of the pool; they
    are not in `late`.
    """

    tolerance_s: float
    sent: int
    late: int
    held_back: int
    p50_ms: float | None
    p99_ms: float | None
    max_ms: float | None

    ALLOWED = 0.01
    """Share of late sends above which a run is void."""

    @property
    def kept_up(self) -> bool:
        return self.late <= self.ALLOWED * max(1, self.sent)


def tolerance_s(slo_s: float | None) -> float:
    """5 % of the SLO within 1 to 10 ms; 5 ms without one."""
    return 5e-3 if slo_s is None else min(10e-3, max(1e-3, 0.05 * slo_s))


def punctuality(record: Record, allowed_s: float) -> Punctuality:
    """Look at the send times of a record."""
    lag_s = record.lag_s
    sent = ~np.isnan(lag_s)
    late = sent & (np.nan_to_num(lag_s) > allowed_s)
    own = lag_s[sent & ~record.held_back]
    p50, p99, most = (float(one) * 1e3 for one in np.quantile(own, [0.5, 0.99, 1.0])) if own.size else (None, None, None)
    n_late, n_held = int((late & ~record.held_back).sum()), int((late & record.held_back).sum())
    return Punctuality(allowed_s, int(sent.sum()), n_late, n_held, p50, p99, most)


@dataclass(frozen=True, slots=True)
class Bin:
    """One step of the time line, by due time; rates per second."""

    at_s: float
    offered: float
    in_slo: float
    late: float
    refused: float
    lost: float
    p50_ms: float | None
    p99_ms: float | None


def time_line(record: Record, slo_s: float | None, duration_s: float, n_bins: int = 60) -> list[Bin]:
    """The run in at most `n_bins` steps of at least 0.1 s."""
    step_s = max(0.1, duration_s / n_bins)
    index = (record.due_s // step_s).astype(np.int64)
    bins = []
    for at in range(int(np.ceil(duration_s / step_s))):
        one = part(record, index == at)
        counts, answers_s = tally(one, slo_s), one.latency_s[one.status == 200]
        lost = counts.n_failed + counts.timed_out + counts.never_sent
        bins.append(
            Bin(
                at_s=at * step_s,
                offered=counts.scheduled / step_s,
                in_slo=counts.in_slo / step_s,
                late=counts.late / step_s,
                refused=counts.n_refused / step_s,
                lost=lost / step_s,
                p50_ms=_quantile_ms(answers_s, 0.5),
                p99_ms=_quantile_ms(answers_s, 0.99),
            )
        )
    return bins


def _quantile_ms(latency_s: Floats, q: float) -> float | None:
    return float(np.quantile(latency_s, q)) * 1e3 if latency_s.size else None


def histogram(record: Record, per_decade: int = 20) -> dict[str, list[float]]:
    """Answers by latency: logarithmic edges in ms [n + 1] and counts [n]."""
    answers_ms = record.latency_s[record.status == 200] * 1e3
    if not answers_ms.size:
        return {"edges_ms": [], "counts": []}
    low, high = np.floor(np.log10(max(1e-3, answers_ms.min()))), np.ceil(np.log10(max(2e-3, answers_ms.max())))
    edges = np.logspace(low, max(high, low + 1), int(max(high - low, 1)) * per_decade + 1)
    counts, _ = np.histogram(np.clip(answers_ms, edges[0], edges[-1]), edges)
    used = np.flatnonzero(counts)
    first, last = int(used[0]), int(used[-1]) + 1
    return {"edges_ms": edges[first : last + 1].tolist(), "counts": counts[first:last].tolist()}
