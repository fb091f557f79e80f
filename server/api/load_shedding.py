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

SURPRISE = 2.5
MEMORY = 256
"""For the beginning of an overload a turn counts as no more than so many times what its requests usually take, by the last so many that
were all taken on: whoever kept the thread from its processor for a moment did not ask too much of it, and few connections can
never have a long turn of their own."""

WANTED_TURN = 0.1
"""While there is, such a share of the requests is refused that turns take this share of the SLO: long enough for full batches, and so
short that no crowd is left, whose connections cost more each because none of them is in the processor's cache."""

GAIN = 0.225
RISE = 0.06
"""How: proportional-integral control. For each wanted length that a turn is too long, so much more is refused at once, and with each SLO that
passes so much more for good. What was for good is halved in each tick that has only short turns, or time to spare."""

MOST = 0.9
"""No larger share, because clients who wait for each answer before they ask again are only answered sooner by more of it: to
them every refusal is a request more."""

FIRST_SPELL_S, LONGEST_SPELL_S = 0.5, 8.0
"""After such a time it is seen whether it goes without refusals. Each time it does not, the next try is twice as far away."""


class LoadShedder:
    """Judges the event loop by its turns: from the first request that was read to the last that was taken on. Asleep while nothing is asked."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock, busy_clock: Clock) -> None:
        """`busy_clock`: seconds that the loop's thread has worked, what it does between the turns included."""
        self._loop = loop
        self._clock = clock
        self._busy_clock = busy_clock
        self.share = 0.0
        self._owed = 0.0
        self.is_overload = False
        self._steady = 0.0
        self._spell_s = FIRST_SPELL_S
        self._spell_ends_at = float("-inf")
        self._timer: asyncio.TimerHandle | None = None
        self._is_in_turn = False
        self._turn_began_at = self._ticked_at = self._busy_s = self._in_turns_s = 0.0
        self._longest = self._turn_s = self._request_s = 0.0
        self._n_in_turn = 0
        self._least_slo_s = float("inf")

    @property
    def retry_after_s(self) -> float:
        """When there may be room for one more."""
        return self._turn_s / (1 - self.share)

    def sheds(self, slo_s: float) -> bool:
        """Whether the request that was just read, for a model with this SLO, is to be refused."""
        if not self._is_in_turn:
            self._is_in_turn = True
            self._n_in_turn = 0
            self._least_slo_s = slo_s
            self._turn_began_at = self._clock()
            self._loop.call_soon(self._turn_ended)
        elif slo_s < self._least_slo_s:
            self._least_slo_s = slo_s
        self._n_in_turn += 1
        if not self.share:
            return False
        self._owed += self.share
        if self._owed < 1:
            return False
        self._owed -= 1
        return True

    def _turn_ended(self) -> None:
        self._is_in_turn = False
        took_s = self._clock() - self._turn_began_at
        self._turn_s = took_s if self.is_overload else self._as_usual(took_s)
        turn = self._turn_s / self._least_slo_s
        self._longest = max(self._longest, turn)
        if self._timer is None:
            self._ticked_at, self._busy_s, self._in_turns_s = self._turn_began_at, self._busy_clock() - took_s, 0.0
            self._timer = self._loop.call_later(TICK_S, self._tick)
        self._in_turns_s += took_s
        if self.is_overload:
            self._control(turn)

    def _as_usual(self, took_s: float) -> float:
        """What the turn counts as; and its requests become a part of what is usual."""
        request_s = took_s / self._n_in_turn
        if self._request_s:
            request_s = min(request_s, SURPRISE * self._request_s)
            self._request_s += (request_s - self._request_s) * min(1.0, self._n_in_turn / MEMORY)
        else:
            self._request_s = request_s
        return request_s * self._n_in_turn

    def _control(self, turn: float) -> None:
        excess = turn / WANTED_TURN - 1
        passed = turn  # a turn's share of the SLO is also how many SLOs passed meanwhile
        self._steady = min(MOST, max(0.0, self._steady + RISE * excess * passed))
        self.share = min(MOST, max(0.0, self._steady + GAIN * excess))

    def _tick(self) -> None:
        now, busy_s = self._clock(), self._busy_clock()
        # a thread that others keep from its processor works less than its turns take
        busy = max(busy_s - self._busy_s, self._in_turns_s) / (now - self._ticked_at)
        if self.is_overload:
            if now >= self._spell_ends_at:
                self.is_overload, self.share = False, 0.0
            elif busy < FULL or self._longest < WANTED_TURN / 2:
                self._steady /= 2
                self.share = min(self.share, self._steady)
        elif busy >= FULL and self._longest > LONG_TURN:
            self._begin(now)
        self._timer = self._loop.call_later(TICK_S, self._tick) if self._in_turns_s or self.is_overload else None
        self._ticked_at, self._busy_s, self._in_turns_s, self._longest = now, busy_s, 0.0, 0.0

    def _begin(self, now: float) -> None:
        again = now - self._spell_ends_at < FIRST_SPELL_S
        self._spell_s = min(LONGEST_SPELL_S, 2 * self._spell_s) if again else FIRST_SPELL_S
        if not again:
            self._steady = 0.0
        self.is_overload, self._spell_ends_at = True, now + self._spell_s
        self._control(self._longest)
