"""When requests come faster than they can all be answered, however shortly: a share of them is refused as soon as it is read.

A refusal costs a part of what an answer costs. A loop that takes on all it reads comes back to each connection later and
later; clients that keep to their rate queue up behind their own connections, where no server sees them, and every answer
is late. Only who answers as fast as is asked keeps the others in time, and for that some must be told no at once.
"""

from __future__ import annotations

import asyncio

from server.runtime.clock import Clock

TICK_S = 0.02
"""How often it is asked whether there is an overload."""

FULL = 0.95
LONG_TURN = 0.6
"""There is, when the loop is at work for such a share of the time, and a turn takes such a share of the SLO."""

CALM_TICKS = 25
"""It is over when nothing had to be refused for so many ticks."""

SHORT_TURN = 0.1
TOO_LONG_TURN = 0.5
MOST = 0.9
"""While there is, as large a share is refused as turns are long: nothing at a tenth of the SLO, the most at half of it. What
queues up makes turns longer, so that they find the length at which just enough is refused. There is a most because clients
who wait for each answer before they ask again are only answered sooner by more of it: to them every refusal is a request more."""

SMOOTHING = 0.3
"""Weight of the newest turn in the length that counts."""


class LoadShedder:
    """Judges the event loop by its turns: from the first request that was read to the last that was taken on. Asleep while nothing is asked."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock, busy_clock: Clock) -> None:
        """`busy_clock`: seconds that the loop's thread has worked, what it does between the turns included."""
        self._loop = loop
        self._clock = clock
        self._busy_clock = busy_clock
        self.share = 0.0
        self._owed = 0.0
        self._is_overload = False
        self._n_calm = 0
        self._timer: asyncio.TimerHandle | None = None
        self._is_in_turn = False
        self._turn_began_at = self._ticked_at = self._busy_s = self._in_turns_s = 0.0
        self._longest = self._turn = self._turn_s = 0.0
        self._least_slo_s = float("inf")

    @property
    def retry_after_s(self) -> float:
        """When there may be room for one more."""
        return self._turn_s / (1 - self.share)

    def sheds(self, slo_s: float) -> bool:
        """Whether the request that was just read, for a model with this SLO, is to be refused."""
        if not self._is_in_turn:
            self._is_in_turn = True
            self._least_slo_s = slo_s
            self._turn_began_at = self._clock()
            self._loop.call_soon(self._turn_ended)
        elif slo_s < self._least_slo_s:
            self._least_slo_s = slo_s
        if not self.share:
            return False
        self._owed += self.share
        if self._owed < 1:
            return False
        self._owed -= 1
        return True

    def _turn_ended(self) -> None:
        self._is_in_turn = False
        self._turn_s = self._clock() - self._turn_began_at
        turn = self._turn_s / self._least_slo_s
        self._longest = max(self._longest, turn)
        if self._timer is None:
            self._ticked_at, self._busy_s, self._in_turns_s = self._turn_began_at, self._busy_clock() - self._turn_s, 0.0
            self._timer = self._loop.call_later(TICK_S, self._tick)
        self._in_turns_s += self._turn_s
        if self._is_overload:
            self._turn += SMOOTHING * (turn - self._turn)
            self.share = MOST * min(1.0, max(0.0, (self._turn - SHORT_TURN) / (TOO_LONG_TURN - SHORT_TURN)))

    def _tick(self) -> None:
        now, busy_s = self._clock(), self._busy_clock()
        # a thread that others keep from its processor works less than its turns take
        busy = max(busy_s - self._busy_s, self._in_turns_s) / (now - self._ticked_at)
        if self._is_overload:
            self._n_calm = 0 if self.share else self._n_calm + 1
            self._is_overload = self._n_calm < CALM_TICKS
        elif busy >= FULL and self._longest > LONG_TURN:
            self._is_overload, self._n_calm, self._turn = True, 0, self._longest
        self._timer = self._loop.call_later(TICK_S, self._tick) if self._in_turns_s or self._is_overload else None
        self._ticked_at, self._busy_s, self._in_turns_s, self._longest = now, busy_s, 0.0, 0.0
