"""What batches really take, drawn from the distribution that the profile holds of each cell."""

from __future__ import annotations

import random
from dataclasses import replace

from server.contract.profile import Profile
from server.simulation.wire import JOIN_S

_P95, _P99 = 0.95, 0.99


class Drawn:
    """Satisfies station.Times. Straight lines between the profile's quantiles, and on beyond the last one; the lower half reaches half as
    far from the median as the 95th percentile does, which is what repeated runs look like.

    `slower`: how many times longer than profiled the model takes. Joining and splitting comes on top.
    """

    def __init__(self, profile: Profile, rnd: random.Random, slower: float = 1.0) -> None:
        self._profile = profile
        self._p95 = Profile(profile.device, profile.placement, tuple(replace(one, p50_s=one.p95_s) for one in profile.cells))
        self._random = rnd
        self._slower = slower

    def batch_s(self, rows: int, length: int) -> float:
        """Another value each time."""
        p50_s = self._profile.predict(rows, length)
        p95_s = max(p50_s, self._p95.predict(rows, length))
        p99_s = max(p95_s, self._profile.predict_p99(rows, length))
        return self._slower * _quantile(self._random.random(), p50_s, p95_s, p99_s) + JOIN_S * rows


def _quantile(share: float, p50_s: float, p95_s: float, p99_s: float) -> float:
    if share < 0.5:
        return max(p50_s / 2, p50_s - (0.5 - share) * (p95_s - p50_s))
    if share < _P95:
        return p50_s + (share - 0.5) / (_P95 - 0.5) * (p95_s - p50_s)
    return p95_s + (share - _P95) / (_P99 - _P95) * (p99_s - p95_s)
