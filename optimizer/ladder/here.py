"""What this machine and installation have to try candidates with. Values only; nothing is loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from optimizer.tensorrt.build import Engine, EngineWish, build_engine
from server.backends.base import Backends
from server.backends.nvidia import Cards, find_cards

Build = Callable[[Path, Path, EngineWish, Path | None], Engine]
"""(ONNX file, engine to write, wish, file that keeps timings) → what was built. Raises StageFailed. Must be importable by name in another
process."""


@dataclass(frozen=True, slots=True)
class Here:
    """`cards`: asked for the reason where there is none. `build`: who builds engines."""

    backends: Backends
    cards: Cards = field(default_factory=find_cards)
    build: Build = build_engine
