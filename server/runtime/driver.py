"""Feeds one scheduler: events in order, requests of one turn together, one timer, the flight recorder's ring. Who carries its decisions
out is told of each; nothing is decided here. After a bug, which leaves the scheduler in nobody knows what state, no event reaches it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

from server.core.events import Action, Closed, Drain, Event, Submit, Wake
from server.core.scheduler import Scheduler
from server.core.types import InferRequest, ModelKey
from server.recording.ring import Ring
from server.runtime.clock import Clock
from server.runtime.owed import Owed

log = logging.getLogger(__name__)

CarryOut = Callable[[Action[Any], Any], None]
GiveUp = Callable[[Sequence[InferRequest[Any]]], None]


class Driver:
    """On the event loop only. Payloads are the affair of whoever submits and carries out."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, clock: Clock, carry_out: CarryOut, turn_over: Callable[[], None], give_up: GiveUp
    ) -> None:  # fmt: skip
        """`carry_out`: is given each decision, and what belongs to the event that brought it about. `turn_over`: is called after a
        turn of the event loop in which requests arrived, to flush them. `give_up`: is given, after a bug, the requests that have no
        outcome: at once all that were accepted, then whoever still comes."""
        self.scheduler: Scheduler[Any] = Scheduler()
        self.ring = Ring(self.scheduler)
        self.n_requests = 0
        self.n_arrived_rows = 0
        self.arrived: dict[ModelKey, list[InferRequest[Any]]] = {}
        self.is_broken = False
        self._loop = loop
        self._clock = clock
        self._carry_out = carry_out
        self._turn_over = turn_over
        self._give_up = give_up
        self._owed = Owed()
        self._closing: dict[ModelKey, asyncio.Future[None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    def next_id(self) -> int:
        """The number of one request more."""
        self.n_requests += 1
        return self.n_requests

    def add(self, request: InferRequest[Any]) -> None:
        """Requests that come in one turn of the event loop reach the scheduler together."""
        if not self.arrived:
            self._loop.call_soon(self._turn_over)
        self.n_arrived_rows += request.rows
        self.arrived.setdefault(request.model, []).append(request)

    def flush(self) -> None:
        """What has arrived reaches the scheduler now."""
        arrived, self.arrived, self.n_arrived_rows = self.arrived, {}, 0
        for key, requests in arrived.items():
            self.feed(Submit(key, tuple(requests)))

    def feed(self, event: Event[Any], result: Any = None) -> None:
        """The scheduler is told; what it decides is carried out."""
        self._owed.expect(event)
        if self.is_broken:
            self._give_up(self._owed.take_all())
            return
        try:
            self._handle(event, result)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # a bug in ferry, or a library's panic: whoever waits must not wait for ever
            log.critical("a bug in ferry: the scheduler is given up, and whoever waits is told so", exc_info=True)
            self._break()

    def _handle(self, event: Event[Any], result: Any) -> None:
        now = self._clock()
        actions = self.scheduler.handle(event, now)
        self.ring.note(event, actions, now)  # before they are carried out: that may bring the next event
        for action in actions:
            if isinstance(action, Closed):
                _end(self._closing.pop(action.model))
            else:
                self._carry_out(action, result)
                self._owed.settle(action)
        self._set_timer()

    def _break(self) -> None:
        self.is_broken = True
        if self._timer is not None:
            self._timer.cancel()
        self._give_up(self._owed.take_all())
        for closed in self._closing.values():
            _end(closed)
        self._closing.clear()

    async def drain(self, key: ModelKey) -> None:
        """Nothing new is taken for this model; returns when it has nothing left."""
        self.flush()
        if self.is_broken:
            return
        closed = self._closing[key] = self._loop.create_future()
        self.feed(Drain(key))
        await closed

    def _set_timer(self) -> None:
        """One timer for the scheduler. One that rings early only looks again, so it is moved when it would be late."""
        wanted = self.scheduler.next_wakeup()
        if wanted is None or (self._timer is not None and self._timer_at <= wanted):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = wanted
        self._timer = self._loop.call_later(max(0.0, wanted - self._clock()), self._ring)

    def _ring(self) -> None:
        self._timer = None
        wanted = self.scheduler.next_wakeup()
        if wanted is not None and wanted <= self._clock():
            self.feed(Wake())
        else:
            self._set_timer()


def _end(closed: asyncio.Future[None]) -> None:
    if not closed.done():  # whoever waited for it may have gone
        closed.set_result(None)
