"""What every model has in common on its device: a queue, instances, how much of the device it had, what it is asked next."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Generic, Protocol

from server.core.device import ACTIVE_SLACKS, Device
from server.core.events import Action, Refuse
from server.core.types import Demand, InferRequest, ModelKey, P, Refusal
from server.core.waiting import Waiting

WhyNot = tuple[Refusal, float | None]


class Started(Protocol):
    """Work that an instance has, or is given next."""

    expected_at: float


class Tenant(ABC, Generic[P]):
    """One model on its device. The Scheduler mutates it; everybody else reads."""

    running: Mapping[int, Started]

    def __init__(self, model: ModelKey, waiting: Waiting[P], device: Device[P]) -> None:
        self.model = model
        self.device = device
        device.lanes.append(self)
        self.waiting = waiting
        self.instances = 0
        self.draining = False
        self.used_s = 0.0
        self.owed_s = 0.0
        self.slack_s = float("inf")
        self.asked_at = float("-inf")

    @property
    def idle(self) -> int:
        """Instances without work; below zero: so many batches are formed ahead."""
        return self.instances - len(self.running)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left of what was accepted."""
        return not self.running and not self.waiting

    @property
    def wants_device(self) -> bool:
        """Whether something waits for it."""
        return bool(self.waiting)

    @property
    def priority(self) -> int:
        """That of the most urgent who waits for the device; someone must."""
        return self.waiting.head.priority

    @property
    def patience_s(self) -> float:
        """How long the device may be kept from it."""
        return self.slack_s

    @property
    @abstractmethod
    def wake_at(self) -> float:
        """When something must be decided about those who wait, unless something happens before; someone must wait."""

    @property
    @abstractmethod
    def next_s(self) -> float:
        """Expected time of the next batch or step; someone must wait for it."""

    @property
    @abstractmethod
    def latest_safe_start(self) -> float:
        """The last moment for that to start without making the most urgent late, the guard included."""

    @property
    def promised_start(self) -> float:
        """When its next step must start for the inter-token SLO of those who are resident; infinite where nobody is."""
        return float("inf")

    @abstractmethod
    def is_ready(self, now: float) -> bool:
        """Whether it would start something now, if the device had room."""

    @abstractmethod
    def start_next(self, now: float, number: Callable[[], int]) -> list[Action[P]]:
        """Refuse who is late, then start one batch or step, if any is left; it must be ready. `number` gives the next one."""

    def look_ahead(self, now: float, number: Callable[[], int]) -> list[Action[P]]:
        """Start what may be started before an instance is free: nothing, by default."""
        return []

    @abstractmethod
    def add_instance(self, now: float, instance: int) -> None:
        """One more."""

    @abstractmethod
    def latest_start(self, request: InferRequest[P] | Demand) -> float:
        """The last moment at which this request, alone, can still be in time."""

    @abstractmethod
    def work_before_s(self, priority: int, deadline_at: float, now: float) -> float:
        """Device time that it would take before a neighbour's request of this priority with this deadline."""

    @abstractmethod
    def why_not(self, request: InferRequest[P], now: float) -> WhyNot | None:
        """None when a newcomer is welcome, else why not, and in how many seconds it may be."""

    @abstractmethod
    def retry_after(self, now: float) -> float:
        """Seconds until the work that waits now is done."""

    @abstractmethod
    def drop(self, request: InferRequest[P]) -> None:
        """Take a request out of the queue because it has its outcome."""

    def asked(self, request: InferRequest[P], now: float) -> None:
        """Note how much slack requests have: quickly when it is little, slowly when it is more, so about a low quantile."""
        slack_s = max(0.0, self.latest_start(request) - now)
        known_s = slack_s if self.slack_s == float("inf") else self.slack_s
        self.slack_s = known_s + (0.5 if slack_s < known_s else 0.01) * (slack_s - known_s)
        self.asked_at = now

    def is_active(self, now: float) -> bool:
        """Whether requests are to be reckoned with."""
        return bool(self.waiting) or now - self.asked_at < ACTIVE_SLACKS * self.slack_s

    def ends(self) -> list[float]:
        """When what runs is expected to end."""
        return [running.expected_at for running in self.running.values()]

    def free_at(self, now: float) -> float:
        """When an instance is expected to be free for what comes next."""
        if self.device.is_shared and self.instances:
            return self.device.free_at(self, now)
        if self.idle > 0 or not self.instances:
            return now
        ends = sorted([running.expected_at for running in self.running.values()])
        return max(now, ends[-self.idle])

    def refusal(self, request: InferRequest[P], now: float) -> Refuse[P] | None:
        """The refusal that a newcomer deserves, or None."""
        why = self.why_not(request, now)
        return None if why is None else Refuse(request, *why)

    def refuse(self, request: InferRequest[P], now: float) -> Refuse[P]:
        """Give up a request that waits."""
        self.drop(request)
        return Refuse(request, Refusal.DEADLINE, self.retry_after(now))

    def refuse_late(self, now: float, at_wakeup: bool) -> list[Action[P]]:
        """Refuse from the head of each priority what cannot be in time even alone. At a wake-up no instance is free for them, so
        a request whose last moment to start is now is late too."""
        refused: list[Action[P]] = []
        while self.waiting:
            heads = list(self.waiting.heads()) if self.waiting.is_mixed else [self.waiting.head]
            late = [head for head in heads if (latest := self.latest_start(head)) < now or (latest == now and at_wakeup)]
            if not late:
                break
            refused += [self.refuse(head, now) for head in late]
        return refused
