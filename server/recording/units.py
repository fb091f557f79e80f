"""Times in words."""

from __future__ import annotations


def ms(seconds: float) -> str:
    return f"{seconds * 1e3:,.1f} ms" if abs(seconds) >= 1e-3 else f"{seconds * 1e3:.2f} ms"


def after(seconds: float) -> str:
    return f"{seconds * 1e3:+,.2f} ms"
