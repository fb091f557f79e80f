"""The servers that everybody else runs, in virtual time: what the scheduler is compared with."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from server.core.costs import CostTable, StepCosts
from server.core.types import GenerateRequest
from server.simulation.clients import Request
from server.simulation.laws import Truth
from server.simulation.streams import Streams
from server.simulation.tally import Tally


@dataclass(frozen=True)
class Naive:
    """First in, first out, batches padded to the longest. `delay_s`: how long the oldest waits for a batch to fill.
    `queue`: how many may wait. `give_up_s`: who has waited longer when a batch is formed is refused."""

    batch_rows: int
    delay_s: float = 0.0
    queue: int = 10**9
    give_up_s: float = float("inf")
    devices: int = 1


def serve_naive(requests: Sequence[Request], costs: CostTable, how: Naive, truth: Truth | None = None) -> Tally:
    """Requests of one row each, in order of arrival."""
    tally, waiting, free_at = Tally(), deque[Request](), [0.0] * how.devices
    place = 0
    while waiting or place < len(requests):
        now = max(free_at[0], waiting[0].arrived_at if waiting else requests[place].arrived_at)
        place = _join(requests, place, now, waiting, how, tally)
        start_at = max(now, waiting[0].arrived_at + how.delay_s)
        while len(waiting) < how.batch_rows and place < len(requests) and requests[place].arrived_at <= start_at:
            now = max(now, requests[place].arrived_at)
            place = _join(requests, place, now, waiting, how, tally)
        now = now if len(waiting) >= how.batch_rows else max(now, start_at)
        while waiting and now - waiting[0].arrived_at > how.give_up_s:
            tally.refused.append(waiting.popleft())
        batch = [waiting.popleft() for _ in range(min(how.batch_rows, len(waiting)))]
        if batch:
            end_at = now + _takes_s(batch, costs, truth, now)
            heapq.heapreplace(free_at, end_at)
            tally.answer(batch, end_at)
    return tally


def _join(requests: Sequence[Request], place: int, now: float, waiting: deque[Request], how: Naive, tally: Tally) -> int:
    while place < len(requests) and requests[place].arrived_at <= now:
        if len(waiting) < how.queue:
            waiting.append(requests[place])
        else:
            tally.refused.append(requests[place])
        place += 1
    return place


def _takes_s(batch: Sequence[Request], costs: CostTable, truth: Truth | None, now: float) -> float:
    predicted_s = costs.batch_s(len(batch), max(request.length for request in batch))
    return truth(predicted_s, now) if truth else predicted_s


def generate_static(requests: Sequence[GenerateRequest[int]], costs: StepCosts, slots: int) -> Streams:
    """Static batching of requests in order of arrival: who waits when the device is free goes together, up to `slots`; the next batch
    begins when the last of them has its last token, and rows that have ended are computed on."""
    streams, place, now = Streams(), 0, 0.0
    while place < len(requests):
        now = max(now, requests[place].arrived_at)
        batch = [request for request in requests[place : place + slots] if request.arrived_at <= now]
        place += len(batch)
        now += sum([costs.prefill_s(request.length) for request in batch])
        kept = sum([request.length for request in batch])
        for step in range(1, max([request.payload for request in batch]) + 1):
            now += costs.decode_s(len(batch), kept + step * len(batch)) if step > 1 else 0.0
            got = [request for request in batch if request.payload >= step]
            streams.emit(got, [request for request in got if request.payload == step], now)
    return streams
