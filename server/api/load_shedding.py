"""When requests come faster than they can all be answered, however shortly: a share of them is refused as soon as it is read.

A refusal costs a part of what an answer costs. A loop that takes on all it reads comes back to each connection later and
later; clients that keep to their rate queue up behind their own connections, where no server sees them, and every answer
is late. Only who answers as fast as is asked keeps the others in time, and for that some must be told no at once.
"""

from __future__ import annotations

import asyncio

from server.runtime.clock import Clock

TICK_S = 0.02
"""How often the loop is judged."""

LONG_TURN = 0.75
"""A turn of the loop that takes so much of the SLO leaves too little of it: it is then that shedding begins."""

SHORT_TURN = 0.1
"""It goes on until the turns are as short as this, or there is time to spare: what has queued up behind the connections must
be worked off too."""

FULL = 0.95
"""The loop is full when it is at work for this share of the time."""

MOST = 0.85
"""The largest share that is refused this way. Clients who wait for each answer before they ask again would only be
answered sooner by more of it: to them every refusal is a request more."""

UP, LEAST_UP = 0.25, 0.1
"""How much the share rises in a tick while the loop is full: for each SLO that a turn takes, and at least."""

DOWN, LEAST_DOWN = 0.3, 0.01
"""How much it falls else: for all the time that there is to spare, and at least, to try again and again whether less will do."""


class LoadShedder:
    """Judges the event loop by its turns: from the first request that was read to the last that was taken on. Asleep while nothing is asked."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock) -> None:
        self._loop = loop
        self._clock = clock
        self.share = 0.0
        self._owed = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._is_in_turn = False
        self._turn_began_at = self._ticked_at = self._busy_s = self._longest_s = 0.0
        self._least_slo_s = float("inf")

    @property
    def retry_after_s(self) -> float:
        """When there may be room for one more."""
        return max(TICK_S, self._longest_s) / (1 - self.share)

    def sheds(self, slo_s: float) -> bool:
        """Whether the request that was just read, for a model with this SLO, is to be refused."""
        if not self._is_in_turn:
            self._is_in_turn = True
            self._turn_began_at = self._clock()
            self._loop.call_soon(self._turn_ended)
        if slo_s < self._least_slo_s:
            self._least_slo_s = slo_s
        if not self.share:
            return False
        self._owed += self.share
        if self._owed < 1:
            return False
        self._owed -= 1
        return True

    def _turn_ended(self) -> None:
        took_s = self._clock() - self._turn_began_at
        self._is_in_turn = False
        self._longest_s = max(self._longest_s, took_s)
        if self._timer is None:
            self._ticked_at, self._busy_s = self._turn_began_at, 0.0
            self._timer = self._loop.call_later(TICK_S, self._tick)
        self._busy_s += took_s

    def _tick(self) -> None:
        now = self._clock()
        busy = self._busy_s / (now - self._ticked_at)
        turn = self._longest_s / self._least_slo_s
        if busy < FULL:
            self.share = max(0.0, self.share - DOWN * (FULL - busy) - LEAST_DOWN)
        elif turn > (SHORT_TURN if self.share else LONG_TURN):
            self.share = min(MOST, self.share + max(LEAST_UP, UP * turn))
        self._timer = self._loop.call_later(TICK_S, self._tick) if self._busy_s or self.share else None
        self._ticked_at, self._busy_s, self._longest_s, self._least_slo_s = now, 0.0, 0.0, float("inf")
