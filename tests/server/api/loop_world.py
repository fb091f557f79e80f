"""An event loop in virtual time that reads from many clients in turn, each of whom keeps to its own rate: what overload does to it."""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from server.api.load_shedding import LoadShedder

GROUP = 64
"""So many requests share a batch, after which they have their answers."""


class LoopWorld:
    """`answer_s` and `refusal_s`: what one of each costs the loop. A client has one request on its way; what else is due waits
    behind it, where the server does not see it. While it has some `slowness`, all work takes so many times as long."""

    def __init__(self, answer_s: float, refusal_s: float, slo_s: float, n_clients: int = 1024) -> None:
        self.now = self.busy_s = 0.0
        self.slowness = 1.0
        self.shedder = LoadShedder(self, lambda: self.now, lambda: self.busy_s)  # type: ignore[arg-type]  # as much of a loop as it asks for
        self.in_time: dict[float, int] = {}
        self.n_late = self.n_refused = 0
        self._answer_s, self._refusal_s, self._slo_s = answer_s, refusal_s, slo_s
        self._lines: list[deque[float]] = [deque() for _ in range(n_clients)]
        self._is_asking = [False] * n_clients
        self._to_read: deque[tuple[int, float]] = deque()
        self._soon: list[Callable[[], None]] = []
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._n_timers = 0

    def call_soon(self, callback: Callable[[], None]) -> None:
        self._soon.append(callback)

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Any:
        self._n_timers += 1
        heapq.heappush(self._timers, (self.now + delay_s, self._n_timers, callback))
        return self._n_timers

    def play(self, phases: Sequence[tuple[float, float]], seed: int, lasts_s: float = 0.0) -> None:
        """Poisson arrivals in phases of (requests per second, seconds), dealt out to the clients by chance. `lasts_s`: so long
        in all, where there is no phase."""
        due = deque(self._arrivals(phases, random.Random(seed)))
        until = self.now + sum(length_s for _, length_s in phases) + lasts_s
        while self.now < until:
            while due and due[0][0] <= self.now:
                at, client = due.popleft()
                self._lines[client].append(at)
                if not self._is_asking[client]:
                    self._ask(client)
            while self._timers and self._timers[0][0] <= self.now:
                heapq.heappop(self._timers)[2]()
            if self._to_read:
                self._turn()
            else:
                self.now = min(due[0][0] if due else until, self._timers[0][0] if self._timers else until, until)

    def share_in_time(self, from_s: float, to_s: float) -> float:
        """Answers in time to what was due then, as a share of what the loop could answer if it did nothing else."""
        return sum(n for at, n in self.in_time.items() if from_s <= at < to_s) * self._answer_s / (to_s - from_s)

    def _arrivals(self, phases: Sequence[tuple[float, float]], rnd: random.Random) -> list[tuple[float, int]]:
        arrivals, begins_at = [], self.now
        for rate, length_s in phases:
            at = begins_at + rnd.expovariate(rate)
            while at < begins_at + length_s:
                arrivals.append((at, rnd.randrange(len(self._lines))))
                at += rnd.expovariate(rate)
            begins_at += length_s
        return arrivals

    def _ask(self, client: int) -> None:
        self._is_asking[client] = bool(self._lines[client])
        if self._is_asking[client]:
            self._to_read.append((client, self._lines[client].popleft()))

    def _turn(self) -> None:
        """Read once from everybody who has sent something."""
        requests, taken = list(self._to_read), []
        self._to_read.clear()
        for client, due_at in requests:
            if self.shedder.sheds(self._slo_s):
                self.work(self._refusal_s)
                self.n_refused += 1
                self._ask(client)
                continue
            self.work(self._answer_s)
            taken.append((client, due_at))
            if len(taken) == GROUP:
                self._answer(taken)
        self._answer(taken)
        soon, self._soon = self._soon, []
        for callback in soon:
            callback()

    def work(self, seconds: float) -> None:
        """The loop does so much, and nothing else meanwhile."""
        self.now += seconds * self.slowness
        self.busy_s += seconds * self.slowness

    def _answer(self, taken: list[tuple[int, float]]) -> None:
        for client, due_at in taken:
            if self.now - due_at <= self._slo_s:
                second = due_at // 0.1 / 10
                self.in_time[second] = self.in_time.get(second, 0) + 1
            else:
                self.n_late += 1
            self._ask(client)
        taken.clear()


class WaitingCrowd(LoopWorld):
    """Clients who ask again as soon as they have their outcome, and not before."""

    def play(self, phases: Sequence[tuple[float, float]], seed: int, lasts_s: float = 0.0) -> None:
        for client in range(len(self._lines)):
            self._ask(client)
        super().play(phases, seed, lasts_s)

    def _ask(self, client: int) -> None:
        self._lines[client].append(self.now)
        super()._ask(client)
