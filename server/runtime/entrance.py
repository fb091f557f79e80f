"""What is asked of a request before anything is spent on decoding it: when it arrived, whether it is too late, whether too much waits
before it. Engines are made of it, in whatever process they are; what becomes of a request that is let in is theirs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Generic

from server.core.types import Demand, ModelKey
from server.errors import Refused
from server.runtime.clock import Clock
from server.runtime.refusals import KnownRefusals, read_too_late, refusal
from server.runtime.reply_time import within_s
from server.runtime.serving import M

if TYPE_CHECKING:  # a front end in a process of its own has none of them
    from server.core.lane import Lane
    from server.runtime.driver import Driver
    from server.runtime.served import ServedModel
    from server.runtime.work import Work

CROWD = 0.5
"""Only when the work that waits fills so much of the SLO is it asked, before a request is decoded, whether it has a chance."""


class Entrance(ABC, Generic[M]):
    """For models of one kind. Every method must be called on the event loop's thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def arrival(self, model: M, arrived_at: float | None, priority: int = 0, client: int = 0) -> float:
        """When a request arrived (now, if that is not known). `client` does not matter here: see `rationed`.

        Raises Refused, before anything is spent on decoding it, when it cannot be answered in time any more.
        """
        now = self._clock()
        if arrived_at is None:
            return now
        waited_s = now - arrived_at
        late_s = self.late_s(model, waited_s, priority)
        if late_s > 0:
            error: Refused | None = read_too_late(model, waited_s, late_s, priority)
        else:
            error = self.crowded_out(model, arrived_at, priority)
        if error is not None:
            self.turned_away(model, waited_s, error)
            raise error
        return arrived_at

    def late_s(self, model: M, waited_s: float, priority: int = 0) -> float:
        """How late the answer to a request that has waited so long to be read would be at best; up to 0: it may be in time."""
        slo_s = model.classes.of(priority).slo_s if priority else model.slo_s
        return waited_s + model.fastest_s - within_s(slo_s)

    @abstractmethod
    def crowded_out(self, model: M, arrived_at: float, priority: int = 0) -> Refused | None:
        """Satisfies serving.ServingEngine."""

    @abstractmethod
    def turned_away(self, model: M, waited_s: float, error: Refused) -> None:
        """Note a request that was refused unread."""


class QueueEntrance(Entrance["ServedModel"]):
    """Where the queues are too: it sees what waits."""

    def __init__(self, clock: Clock, driver: Driver) -> None:
        super().__init__(clock)
        self._driver = driver
        self._refusals = KnownRefusals()

    def lane(self, key: ModelKey) -> Lane[Work] | None:
        """The scheduler's books for one model, to read only; None when it is not open."""
        try:
            return self._driver.scheduler.lane(key)
        except KeyError:
            return None

    def crowded_out(self, model: ServedModel, arrived_at: float, priority: int = 0) -> Refused | None:
        """The refusal of whatever arrived then for a model before which so much waits that even the smallest request of this class
        would be late."""
        lane = self.lane(model.key)
        slo_s = model.classes.of(priority).slo_s if priority else model.slo_s
        if lane is None or lane.planned_s(lane.waiting.work_s) < CROWD * slo_s:
            return None
        urgency = model.classes.urgency(priority) if priority else 0
        smallest = Demand(1, model.shortest, arrived_at + within_s(slo_s), urgency)
        why_not = lane.why_not(smallest, self._clock())
        if why_not is None:
            return None
        why, retry_after_s = why_not
        key = (model.key, slo_s, why, None if retry_after_s is None else round(retry_after_s * 1e3))
        return self._refusals.find(key) or self._refusals.keep(key, refusal(model, model.key, slo_s, why, retry_after_s))

    def turned_away(self, model: ServedModel, waited_s: float, error: Refused) -> None:
        """Satisfies serving.ServingEngine."""
        model.stats.turned_away(error.label, 1, waited_s)
