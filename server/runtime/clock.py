"""The server's one clock. Intervals are never taken from the wall clock."""

from collections.abc import Callable
from time import monotonic

Clock = Callable[[], float]
"""Seconds from an arbitrary origin, never going back."""

monotonic_clock: Clock = monotonic
