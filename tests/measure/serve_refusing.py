"""`ferry serve` that refuses every infer request it knows the form of, to measure what that costs. No part of the product.

`python -m tests.measure.serve_refusing old|crowd ...`: as if each had waited for an hour to be read, or before a queue that is too long.
"""

from __future__ import annotations

import sys
from typing import Any

from server.api.arrival import Arrivals
from server.cli import main
from server.core.lane import Lane
from server.core.tenant import WhyNot
from server.core.types import Refusal
from server.runtime import engine

_why_not = Lane.why_not


def too_crowded(lane: Lane[Any], demand: Any, now: float) -> WhyNot:
    """The work of an admission that is denied, whatever the queue is."""
    _why_not(lane, demand, now)
    lane.predicted_end(demand, now)
    return Refusal.DEADLINE, 0.05


if __name__ == "__main__":
    if sys.argv.pop(1) == "old":
        Arrivals.waited_s = lambda _: 3600.0  # type: ignore[method-assign]
    else:
        engine.CROWD = -1.0
        Lane.why_not = too_crowded  # type: ignore[assignment,method-assign]
    sys.exit(main())
