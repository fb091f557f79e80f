"""Durations as people write them ("20ms", "1.5s") to seconds and back."""

from __future__ import annotations

import math
import re

from server.contract.errors import ContractError

_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}
_PATTERN = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(us|ms|s|m)\s*")
_LEAST_S = 1e-9


def parse_duration(text: str, where: str = "duration") -> float:
    """Seconds, at least a nanosecond. Raises ContractError: a bare number is refused because its unit is a guess."""
    match = _PATTERN.fullmatch(text)
    seconds = float(match[1]) * _UNITS[match[2]] if match else 0.0
    if not _LEAST_S <= seconds < math.inf:
        raise ContractError(f"{where}: {text!r} is not a duration; write a positive number with a unit, like 20ms or 1.5s")
    return seconds


def format_duration(seconds: float) -> str:
    """For people, rounded to three digits: 0.02 → "20ms"."""
    unit = next((unit for unit in ("s", "ms") if seconds >= _UNITS[unit]), "us")
    return f"{_trim(seconds / _UNITS[unit])}{unit}"


def exact_duration(seconds: float) -> str:
    """For files: what parse_duration reads back as the same time, rounded to nothing coarser than a nanosecond."""
    short = format_duration(seconds)
    return short if math.isclose(parse_duration(short), seconds, rel_tol=1e-9) else f"{seconds / _UNITS['us']:.3f}us"


def _trim(value: float) -> str:
    digits = max(0, 2 - int(math.log10(value))) if value >= 1 else 3
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
