"""Which chunks of which prompts a step holds beside those who decode: as much as keeps every promise that was made."""

from __future__ import annotations

from math import ceil
from typing import Generic

from server.core.step_forecast import StepForecast
from server.core.types import Chunk, GenerateRequest, P, ResidentLimits


class Plan(Generic[P]):
    """One step while it is planned. `most_s`: how long it may be expected to take because others wait for its end.

    A step of nobody who decodes has no such bound of its own. It must still end in time for the first tokens that it brings.
    """

    def __init__(self, limits: ResidentLimits, forecast: StepForecast, decode_s: float, most_s: float, now: float) -> None:
        self._limits = limits
        self._forecast = forecast
        self._most_s = most_s
        self._now = now
        self._tokens_left = limits.step_tokens
        self._first_by = float("inf")  # the earliest deadline that the end of the step keeps so far
        self._decode_s = decode_s
        self._must = decode_s == 0.0  # a step of nothing is none: one chunk at least
        self.takes_s = decode_s
        self.n_finished = 0  # prompts that end in this step
        self.chunks: list[Chunk[P]] = []

    def first_at(self, request: GenerateRequest[P]) -> float:
        """When a prompt would give its first token if it joined now: at the end of this step, or of so many more as it takes, the
        margin for slow ones included."""
        own_s = self._forecast.prefill_s(request.length)
        missing_s, spare_s = own_s - (self._most_s - self.takes_s), self._most_s - self._decode_s
        n_more = ceil(missing_s / spare_s) if missing_s > 0 and spare_s > 0 else 0
        return self._now + (self.takes_s + own_s + n_more * self._decode_s) * self._forecast.margin

    def add(self, request: GenerateRequest[P], start: int) -> bool:
        """As much of its prompt as fits, from `start`. False when nothing does."""
        stop = self._stop(request.length, start)
        if stop == start:
            return False
        self._must = False
        self._tokens_left -= stop - start
        self.takes_s += self._forecast.prefill_s(stop - start)
        self.chunks.append(Chunk(request, start, stop))
        if stop == request.length:
            self.n_finished += 1
            if self._now + self.takes_s <= request.deadline_at:
                self._first_by = min(self._first_by, request.deadline_at)
        return True

    def _stop(self, length: int, start: int) -> int:
        """How far it may go: to the end, or to a multiple of the chunk size."""
        rest, chunk = length - start, self._limits.chunk
        if rest <= self._tokens_left and self._fits(rest):
            return length
        low, high = 0, min(rest, self._tokens_left) // chunk
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self._fits(middle * chunk) else (low, middle - 1)
        if low == 0 and self._must:
            return min(length, start + chunk)
        return start + low * chunk

    def _fits(self, tokens: int) -> bool:
        takes_s = self.takes_s + self._forecast.prefill_s(tokens)
        return takes_s <= self._most_s and self._now + takes_s * self._forecast.margin <= self._first_by
