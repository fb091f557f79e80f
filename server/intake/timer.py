"""The benchmark timer: the only clock that measuring may read."""

from time import perf_counter

now = perf_counter
"""Seconds from an arbitrary origin, monotonic."""
