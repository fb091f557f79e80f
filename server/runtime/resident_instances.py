"""Instances of a model that generates: a thread, a decoder and its residents each. They carry out steps and report on the event loop.

Where they may, they begin the next tokens while the event loop hears of the last ones and decides what the next step is (docs/decisions/0031).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue

from server.backends.base import BatchError
from server.core.events import Iterate, Release
from server.core.types import Iteration
from server.generation.asked import Asked
from server.generation.stepper import Stepped, Stepper
from server.runtime.clock import Clock

_Order = Iterate[Asked] | Release[Asked] | None


@dataclass(frozen=True, slots=True)
class StepReport:
    """What came of a step: `stepped`, or why it failed. Times are absolute seconds. A step that took what had been decoded before began so
    much earlier than it was ordered as that took."""

    iteration: Iteration[Asked]
    began_at: float
    ended_at: float
    stepped: Stepped | None
    error: str | None = None


Report = Callable[[StepReport], None]
Lost = Callable[[int, str], None]


class ResidentInstances:
    """All instances of one model version, each with its number. One wake-up of the event loop per step."""

    def __init__(
        self, name: str, make: Callable[[int], Stepper], loop: asyncio.AbstractEventLoop, clock: Clock, report: Report, lost: Lost
    ) -> None:  # fmt: skip
        """`make`: the instance of a number, without residents. `lost`: is told the number of one that died, and why."""
        self._name = name
        self._make = make
        self._loop = loop
        self._clock = clock
        self._report = report
        self._lost = lost
        self._orders: dict[int, SimpleQueue[_Order]] = {}
        self._threads: list[threading.Thread] = []

    def add(self, number: int) -> None:
        """One more, or one instead of the one of this number that died."""
        orders = self._orders[number] = SimpleQueue()
        thread = threading.Thread(target=self._work, args=(number, orders), name=f"{self._name}#{number}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def start(self, step: Iterate[Asked]) -> None:
        """Take a step and return at once; its StepReport comes later."""
        self._orders[step.iteration.instance].put(step)

    def release(self, gone: Release[Asked]) -> None:
        """Before the next step these leave."""
        self._orders[gone.instance].put(gone)

    def stop(self) -> None:
        """Take no more steps."""
        for orders in self._orders.values():
            orders.put(None)

    def join(self) -> None:
        """Wait until nothing runs any more. Blocks: not for the event loop."""
        for thread in self._threads:
            thread.join()

    def _work(self, number: int, orders: SimpleQueue[_Order]) -> None:
        try:
            stepper = self._make(number)
            may_go_on, ahead_s = False, 0.0
            while (order := orders.get()) is not None:
                if isinstance(order, Release):
                    stepper.release(order.requests)
                else:
                    report = self._step(stepper, order.iteration, ahead_s)
                    self._loop.call_soon_threadsafe(self._report, report)
                    may_go_on = order.may_go_on and report.stepped is not None
                    del report
                del order
                if may_go_on and orders.empty():
                    began_at, may_go_on = self._clock(), False
                    stepper.go_on()
                    ahead_s = self._clock() - began_at
        except BaseException as error:  # not a request's fault (a library's panic is no Exception): a new instance comes
            self._loop.call_soon_threadsafe(self._lost, number, f"{type(error).__name__}: {error}")

    def _step(self, stepper: Stepper, iteration: Iteration[Asked], ahead_s: float) -> StepReport:
        began_at = self._clock()
        try:
            stepped = stepper.step(iteration)
        except BatchError as error:
            return StepReport(iteration, began_at, self._clock(), None, str(error))
        return StepReport(iteration, began_at - ahead_s if stepped.went_on else began_at, self._clock(), stepped)
