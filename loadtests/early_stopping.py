"""MLPerf's binomial rule: how many queries a percentile claim needs when some of them were late. Plain arithmetic.

The claim "at least a share `percentile` is in time" holds with `confidence` when so few late ones would be too lucky
otherwise: P(Binomial(n, 1 - percentile) <= late) <= 1 - confidence.
"""

from __future__ import annotations

import math
from enum import Enum

CONFIDENCE = 0.99


class Decision(Enum):
    """What a number of late queries among many says about a percentile."""

    HOLDS = "holds"
    BROKEN = "broken"
    OPEN = "open"


def at_most(late: int, n: int, share: float) -> float:
    """P(Binomial(n, share) <= late), summed in logarithms."""
    if late >= n:
        return 1.0
    log_p, log_q = math.log(share), math.log1p(-share)
    terms = (_log_choose(n, k) + k * log_p + (n - k) * log_q for k in range(late + 1))
    return min(1.0, math.fsum(map(math.exp, terms)))


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def queries_needed(late: int, percentile: float, confidence: float = CONFIDENCE) -> int:
    """The fewest queries, `late` of them late, with which the claim holds."""
    low, high = late, max(1, 2 * late)
    while at_most(late, high, 1 - percentile) > 1 - confidence:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if at_most(late, middle, 1 - percentile) > 1 - confidence:
            low = middle
        else:
            high = middle
    return high


def decide(late: int, n: int, percentile: float, confidence: float = CONFIDENCE) -> Decision:
    """Whether the claim holds, whether its opposite does, or neither yet."""
    if at_most(late, n, 1 - percentile) <= 1 - confidence:
        return Decision.HOLDS
    if late > 0 and 1 - at_most(late - 1, n, 1 - percentile) <= 1 - confidence:
        return Decision.BROKEN
    return Decision.OPEN


def confidence_of(late: int, n: int, percentile: float) -> float:
    """How sure the claim is: 1 minus the chance of so few late ones if it were just not true."""
    return 1 - at_most(late, n, 1 - percentile)
