"""The server's one clock. Intervals are never taken from the wall clock."""

from collections.abc import Callable
from time import monotonic, thread_time, time_ns

Clock = Callable[[], float]
"""Seconds from an arbitrary origin, never going back."""

monotonic_clock: Clock = monotonic


def calendar_ms() -> int:
    """Milliseconds since 1970: for stamps that people read, never for intervals."""
    return time_ns() // 1_000_000


busy_clock: Clock = thread_time
"""Seconds that the calling thread has worked."""
