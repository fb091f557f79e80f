"""One device and the models that share it: which of them may start a batch, and how long it may block the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic

from server.core.types import P

if TYPE_CHECKING:
    from server.core.tenant import Tenant

FLOOR = 0.1
"""Share of the device's time (or of a model's rows) that who waits gets whatever is more urgent."""

BLOCK = 0.5
"""A batch may block the device for so much of the slack of the neighbour that has least."""

ACTIVE_SLACKS = 10.0
"""A neighbour that has not been asked for so many times its slack is not reckoned with."""

MEMORY_S = 1.0
"""How much more of the device a model may claim later because it had less of it before."""

_ROUNDING = 1e-9


class Device(Generic[P]):
    """A batch of a model with n instances takes 1/n of its device, which is how it was measured. The Scheduler mutates it."""

    def __init__(self) -> None:
        self.lanes: list[Tenant[P]] = []

    @property
    def is_shared(self) -> bool:
        return len(self.lanes) > 1

    def next(self, now: float) -> Tenant[P] | None:
        """The model that may form a batch now: the most urgent one, if there is room for it. Another does not go first
        then: it would be in the way."""
        if not self.is_shared:
            lane = self.lanes[0]
            return lane if lane.is_ready(now) else None
        ready = [lane for lane in self.lanes if lane.is_ready(now)]
        if not ready:
            return None
        lane = self._most_urgent(ready, now)
        return lane if self.has_room(lane) else None

    def has_room(self, lane: Tenant[P]) -> bool:
        """Whether a batch of this model fits beside what runs."""
        return sum([len(one.running) / max(1, one.instances) for one in self.lanes]) + 1 / lane.instances <= 1 + _ROUNDING

    def is_wanted_beside(self, lane: Tenant[P]) -> bool:
        """Whether another model than this one has requests that wait: then nothing is formed ahead of them."""
        return self.is_shared and any(one.wants_device for one in self.lanes if one is not lane)

    def is_left_to(self, lane: Tenant[P], now: float) -> bool:
        """Whether no other model than this one has requests to be reckoned with."""
        return not any([one.is_active(now) for one in self.lanes if one is not lane])

    def free_at(self, lane: Tenant[P], now: float) -> float:
        """When a batch of this model is expected to fit."""
        left = sum([len(one.running) / max(1, one.instances) for one in self.lanes]) + 1 / lane.instances - 1
        ends = sorted([(end_at, 1 / max(1, one.instances)) for one in self.lanes for end_at in one.ends()])
        for end_at, share in ends:
            if left <= _ROUNDING:
                break
            now, left = max(now, end_at), left - share
        return now

    def work_before_s(self, lane: Tenant[P], priority: int, deadline_at: float, now: float) -> float:
        """Device time that the neighbours would take before a request of `lane`."""
        return sum([one.work_before_s(priority, deadline_at, now) for one in self.lanes if one is not lane])

    def most_s(self, lane: Tenant[P], now: float) -> float:
        """How long a batch of this model may block the device."""
        slacks = [one.patience_s for one in self.lanes if one is not lane and one.is_active(now)]
        return BLOCK * min(slacks, default=float("inf"))

    def started(self, lane: Tenant[P], takes_s: float) -> None:
        """Keep the books on who gets how much of the device."""
        time_s = takes_s / lane.instances
        lane.used_s += time_s
        lane.owed_s = 0.0
        for one in self.lanes:
            if one is not lane and one.wants_device:
                one.owed_s += FLOOR * time_s
            elif not one.wants_device:
                one.owed_s = 0.0
            one.used_s = max(one.used_s, lane.used_s - MEMORY_S)  # who asked for little has not saved up without limit

    def _most_urgent(self, ready: list[Tenant[P]], now: float) -> Tenant[P]:
        """Whose residents could not wait for another's batch; who is owed the floor; else by priority, and there the smallest latest
        safe start. Where that would make another one late, who has had less of the device goes first."""
        promised = min(ready, key=lambda lane: lane.promised_start)
        if (start_at := promised.promised_start) < float("inf"):
            others = [now + min(one.next_s, self.most_s(one, now)) for one in ready if one is not promised]
            if start_at < max(others, default=0.0):
                return promised
        owed = [lane for lane in ready if lane.owed_s >= lane.next_s / lane.instances]
        if owed:
            return max(owed, key=lambda lane: lane.owed_s)
        top = min(lane.priority for lane in ready)
        equals = [lane for lane in ready if lane.priority == top]
        first = min(equals, key=lambda lane: lane.latest_safe_start)
        free_at = now + min(first.next_s, self.most_s(first, now))
        late = [lane for lane in equals if lane.used_s < first.used_s and lane.latest_safe_start < free_at]
        return min(late, key=lambda lane: lane.used_s, default=first)
