"""What the benchmark of generating servers is told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Options:
    """The command line."""

    out: Path
    work: Path
    environment: Path
    server: str
    optimize: str
    peers: list[str]
    scenes: list[str]
    rounds: int
    requests: int
    arrivals: int
    slots: int
    threads: int
    slo: float
    gap: float
    small_gap: float
    load_s: float
