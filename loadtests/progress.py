"""A line that moves while a load runs: rate, p50, p99, losses. On a terminal in place, elsewhere one line every few seconds."""

from __future__ import annotations

import sys
from collections import deque
from types import TracebackType
from typing import Self

import numpy as np
from rich.console import Console
from rich.live import Live
from rich.text import Text

from loadtests.generators import Tick

_PLAIN_EVERY_S = 2.0
_WINDOW = 4


class Progress:
    """Takes ticks of all generators and shows them as one line. A context; the line stays at the end."""

    def __init__(self, n_scheduled: int, duration_s: float, console: Console | None = None) -> None:
        self._n_scheduled = n_scheduled
        self._duration_s = duration_s
        self._console = console or Console(file=sys.stderr)
        self._live = Live(console=self._console, auto_refresh=False) if self._console.is_terminal else None
        self._latest: dict[int, deque[Tick]] = {}
        self._shown_s = 0.0

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, tick: Tick) -> None:
        """Show a tick."""
        self._latest.setdefault(tick.generator, deque(maxlen=_WINDOW)).append(tick)
        if self._live is not None:
            self._live.update(Text(self.line()), refresh=True)
        elif tick.at_s - self._shown_s >= _PLAIN_EVERY_S:
            self._shown_s = tick.at_s
            self._console.print(self.line(), highlight=False, soft_wrap=True)

    def line(self) -> str:
        """The line as it is now."""
        last = [ticks[-1] for ticks in self._latest.values()]
        latencies_s = [one for ticks in self._latest.values() for tick in ticks for one in tick.latencies_s]
        p50, p99 = np.quantile(latencies_s, [0.5, 0.99]) * 1e3 if latencies_s else (float("nan"),) * 2
        rate = sum(map(_rate, self._latest.values()))
        lost, ended = sum(one.n_lost for one in last), sum(one.n_ended for one in last)
        at_s = max((one.at_s for one in last), default=0.0)
        return (
            f"{at_s:6.1f} of {self._duration_s:.1f} s  {rate:8,.0f} answers/s  p50 {p50:8.2f} ms  p99 {p99:8.2f} ms  "
            f"refused or lost {lost:,}  done {ended:,} of {self._n_scheduled:,}"
        )


def _rate(ticks: deque[Tick]) -> float:
    first, last = ticks[0], ticks[-1]
    if len(ticks) == 1:
        return last.n_answers / max(1e-9, last.at_s)
    return (last.n_answers - first.n_answers) / max(1e-9, last.at_s - first.at_s)
