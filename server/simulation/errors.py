"""The one error of this package."""

from __future__ import annotations


class BadWorkload(ValueError):
    """What is asked for cannot be simulated. The message names what is wrong and what to change."""
