"""The resident memory of a server while something else goes on: a thread that looks now and then."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from loadtests import cpu

_EVERY_S = 0.25


@dataclass(frozen=True, slots=True)
class Look:
    """Seconds since the watch began, and bytes of the process tree."""

    at_s: float
    rss: int


class MemoryWatch:
    """A context that looks at a process tree until it ends."""

    def __init__(self, pid: int, every_s: float = _EVERY_S) -> None:
        self._pid = pid
        self._every_s = every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.looks: list[Look] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        began_at = time.perf_counter()
        while True:
            self.looks.append(Look(time.perf_counter() - began_at, cpu.memory(self._pid).rss))
            if self._stop.wait(self._every_s):
                return

    def most(self, from_s: float, to_s: float) -> int | None:
        """The most that was seen in an interval; None if nothing was."""
        return max((one.rss for one in self.looks if from_s <= one.at_s < to_s), default=None)
