"""What is kept of the time that a request is allowed, for what comes after its batch: the event loop takes the answers, encodes and writes them.

Under overload every answer is given at the last moment, so what is not kept here makes answers late. It is a share of the
time that is allowed, and not learnt: what is learnt in a bad moment could grow until nobody is let in any more.
"""

from __future__ import annotations

LEAST_S = 0.0005
SHARE = 0.02


def kept_s(allowed_s: float) -> float:
    """Of so many seconds."""
    return max(LEAST_S, SHARE * allowed_s)


def within_s(allowed_s: float) -> float:
    """How long after its arrival the batch of a request that is allowed so long must end, at the latest."""
    return allowed_s - kept_s(allowed_s)
