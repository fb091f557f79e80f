"""When a newcomer's first token may be expected: who leaves when, and how fast prompts are worked off beside those who decode."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil

from server.core.lifetimes import N_POINTS, Lifetimes
from server.core.residents import Residents, Stepping
from server.core.step_forecast import StepForecast
from server.core.types import P, ResidentLimits


class Outlook:
    """A view of one moment between two steps. Who leaves makes room for one newcomer, who stays for a lifetime and leaves in turn."""

    def __init__(
        self, places: Mapping[int, Residents[P]], running: Mapping[int, Stepping[P]], limits: ResidentLimits, forecast: StepForecast,
        lifetimes: Lifetimes, step_s: float | None, now: float,
    ) -> None:  # fmt: skip
        self._forecast = forecast
        self._lifetimes = lifetimes
        rows = max([len(place) for place in places.values()], default=0)
        context = max([place.context for place in places.values()], default=0)
        self._decode_s = forecast.decode_s(rows, context)
        self._step_s = step_s or self._decode_s or forecast.decode_s(1, 0)
        self._spare_s = max(limits.gap_s / forecast.margin - self._decode_s, forecast.prefill_s(limits.chunk))
        self._n_places = max(1, len(places))
        ends = [running[place].expected_at if place in running else now for place in places]
        self._first_end = min(ends, default=now)
        self._unfinished_s = sum([
            forecast.prefill_s(resident.request.length - resident.n_prefilled)
            for place in places.values() for resident in place.prefilling.values()
        ])  # fmt: skip
        leave_at: list[float] = []  # N_POINTS for each slot
        self._n_free = self._free_room = n_residents = kept = 0
        for end_at, place in zip(ends, places.values(), strict=True):
            for resident in place.all():
                most_s = resident.request.new_tokens * self._step_s
                begin_at = end_at - resident.n_new * self._step_s
                leave_at += [
                    begin_at + share * most_s for share in lifetimes.shares(resident.n_new / resident.request.new_tokens)
                ]
            n_residents += len(place)
            self._free_room += place.room_left
            kept += limits.room - place.room_left
            n_free = max(0, min(place.slots_left, most_rows(place, limits, forecast) - len(place)))
            leave_at += [self._first_end] * (N_POINTS * n_free)
            self._n_free += n_free
        leave_at.sort()
        self._leave_at = leave_at
        self._room_each = kept / n_residents if n_residents else limits.room / limits.slots

    def first_at(
        self, n_before: float, room_before: float, work_before_s: float, length: int, new_tokens: int, now: float
    ) -> float:
        """When a prompt of this length will have its first token, behind so many requests with so much room and work."""
        pace = self._n_places * self._spare_s / (self._spare_s + self._decode_s)
        work_s = work_before_s * self._forecast.prefill_ratio + self._unfinished_s
        prompts_at = max(now, self._first_end) + work_s / pace
        stays_s = self._step_s * new_tokens * sum(self._lifetimes.shares(0.0)) / N_POINTS
        missing = room_before + length + new_tokens - self._free_room
        if missing > 0:  # who leaves makes room, who takes a free slot does not
            n_before = max(n_before, self._n_free + ceil(missing / self._room_each) - 1)
        slot_at = self._slot_at(n_before, stays_s)
        own_s = self._forecast.prefill_s(length)
        return max(prompts_at, slot_at) + own_s + self._decode_s * ceil(own_s / self._spare_s)

    def _slot_at(self, n_before: float, stays_s: float) -> float:
        """When the slot after that of `n_before` others is free: in the middle of the time in which it is the next one."""
        if not self._leave_at:
            return 0.0
        rounds, place = divmod(int((n_before + 0.5) * N_POINTS), len(self._leave_at))
        return self._leave_at[place] + rounds * stays_s


def most_rows(place: Residents[P], limits: ResidentLimits, forecast: StepForecast) -> int:
    """How many may decode together, with the tokens that are likely now, so that the inter-token SLO is kept; at least one."""
    low, high = 1, limits.slots
    while low < high:
        middle = (low + high + 1) // 2
        keeps = forecast.decode_s(middle, int(place.n_likely)) * forecast.margin <= limits.gap_s
        low, high = (middle, high) if keeps else (low, middle - 1)
    return low
