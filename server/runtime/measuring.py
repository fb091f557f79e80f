"""A model without a profile of this machine is measured in the gaps between its requests, through the instances that serve it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Protocol

import numpy as np

from server.contract.device import Device
from server.contract.profile import Cell, Profile
from server.contract.profiles import Profiles
from server.core.costs import HAND_OFF_S
from server.core.lane import Lane
from server.core.types import ModelKey
from server.errors import FerryError
from server.intake.inspect import Signature
from server.intake.measure import grid_lengths, grid_rows
from server.intake.samples import made_up_samples
from server.runtime.assemble import Inputs
from server.runtime.served import ServedModel
from server.runtime.terms import Terms
from server.runtime.work import Work

MOST = 0.5
"""A batch is tried out if it takes no more than this share of the tightest SLO of all models: who comes meanwhile waits for it. What
batches take that are longer than this share of the model's own SLO is reckoned by the law of those that ran."""

LEAST_S = 1e-6
"""Nothing is expected to take less."""

N_TIMES, N_LEAST, ENOUGH_S = 5, 3, 0.25
"""How often each batch is timed, after a first time that does not count; and how often at least, when that took so long."""


class Engine(Protocol):
    """What is needed of runtime.engine.Engine. All on the event loop."""

    @property
    def n_requests(self) -> int:
        """How many came so far, of all models."""

    @property
    def tightest_slo_s(self) -> float:
        """Of all open models."""

    def lane(self, key: ModelKey) -> Lane[Work] | None:
        """The scheduler's books."""

    def try_out(self, model: ServedModel, inputs: Inputs, rows: int, length: int, answer: Trial) -> bool:
        """Run a batch of nobody's on each instance, if the device has nothing else to do; False if it has."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long nobody must have asked before a batch is tried out, in seconds: at first, and at most after looking in vain."""

    quiet_s: float = 0.05
    most_s: float = 2.0


class Trial:
    """Takes the outcome of one batch on each of `n` instances: an Outcome for the engine, to be awaited by who measures."""

    def __init__(self, n_instances: int) -> None:
        self._left = n_instances
        self._over = asyncio.get_running_loop().create_future()
        self.seconds: list[float] = []
        self.error: FerryError | None = None

    def done(self) -> bool:
        return self._over.done()

    def took(self, seconds: float) -> None:
        """One of the batches ran so long in the model."""
        self.seconds.append(seconds)

    def set_result(self, _outputs: object, /) -> None:
        self._left -= 1
        if not self._left and not self._over.done():
            self._over.set_result(None)

    def set_exception(self, error: FerryError, /) -> None:
        self.error = error
        self.set_result(None)

    async def wait(self) -> list[float]:
        """Seconds on each instance. Raises the first FerryError."""
        await self._over
        if self.error is not None:
            raise self.error
        return self.seconds


class Measuring:
    """Times rows × lengths as intake does, a batch at a time, and rests as long as each took."""

    def __init__(self, engine: Engine, model: ServedModel, device: Device, pace: Pace) -> None:
        self._engine = engine
        self._model = model
        self._device = device
        self._pace = pace
        ragged = model.manifest.ragged
        batches = isinstance(model.manifest.inputs[0].shape[0], str)
        signature = Signature(model.manifest.inputs, model.manifest.outputs, ragged.axis if ragged else None, batches)
        self._samples = made_up_samples(signature, ragged.longest if ragged else 0)
        self._lengths = grid_lengths(ragged.shortest, ragged.longest) if ragged else (0,)
        self._rows = grid_rows(model.max_rows)
        self._times: dict[tuple[int, int], list[float]] = {(r, n): [] for n in self._lengths for r in self._rows}
        self._smallest = min(self._times, key=_size)

    async def run(self) -> Profiles | None:
        """What was measured, when all is; None when too little can be, because hardly a batch is short enough.

        Raises FerryError when the model fails on made-up inputs.
        """
        quiet_s = pause_s = self._pace.quiet_s
        while (place := self._next()) is not None:
            n_requests = self._engine.n_requests
            await asyncio.sleep(pause_s)
            took_s = None
            if n_requests == self._engine.n_requests and self._is_short(place, self._engine.tightest_slo_s):
                took_s = await self._measure(*place)
            if took_s is not None and self._engine.n_requests == n_requests + self._model.placement.instances:
                quiet_s, pause_s = self._pace.quiet_s, took_s
            else:
                quiet_s = pause_s = min(2 * quiet_s, self._pace.most_s)
        rows_measured = {rows for (rows, _), times in self._times.items() if times}
        return Profiles((self._profile(),)) if len(rows_measured) >= min(2, len(self._rows)) else None

    def _next(self) -> tuple[int, int] | None:
        """Of those not measured enough the one measured least often, then the smallest: so all sizes are gone through in rounds, and
        what disturbs the machine for a while does not spoil all times of one. None when the others would take too long; those that are
        too long only for another model come last."""
        left = [place for place, times in self._times.items() if not self._is_done(times)]
        left.sort(key=lambda place: (len(self._times[place]), _size(place)))
        short = [place for place in left if self._is_short(place, self._model.slo_s)]
        return next(
            (place for place in short if self._is_short(place, self._engine.tightest_slo_s)), short[0] if short else None
        )

    def _is_done(self, times: Sequence[float]) -> bool:
        instances = self._model.placement.instances
        n_counted = len(times) / instances - 1
        return n_counted >= N_TIMES or (n_counted >= N_LEAST and sum(times) / instances > ENOUGH_S)

    def _is_short(self, place: tuple[int, int], slo_s: float) -> bool:
        """The very first is tried whatever it takes."""
        return place == self._smallest or self._at_most_s(*place) <= MOST * slo_s

    def _at_most_s(self, rows: int, length: int) -> float:
        """In proportion to a smaller one that was measured: what has not run yet must not be expected to be cheaper."""
        known = [(r, n, median(times)) for (r, n), times in self._times.items() if times and r <= rows and n <= length]
        return min([took_s * (rows / r) * (max(1, length) / max(1, n)) for r, n, took_s in known], default=float("inf"))

    def _expected_s(self, rows: int, length: int) -> float:
        lane = self._engine.lane(self._model.key)
        return max(LEAST_S, lane.forecast.costs.batch_s(rows, length) - HAND_OFF_S) if lane is not None else LEAST_S

    async def _measure(self, rows: int, length: int) -> float | None:
        """Seconds it took; None when the device is busy."""
        trial = Trial(self._model.placement.instances)
        if not self._engine.try_out(self._model, self._samples.batch(rows, length), rows, length, trial):
            return None
        times = await trial.wait()
        self._times[rows, length] += times
        return max(times, default=0.0)

    def _profile(self) -> Profile:
        cells = tuple(self._cell(r, n, self._times[r, n]) for n in self._lengths for r in self._rows)
        return Profile(self._device, self._model.placement, cells, self._model.text)

    def _cell(self, rows: int, length: int, times: Sequence[float]) -> Cell:
        counted = times[self._model.placement.instances :]  # the first time of each instance allocates
        if not counted:
            expected_s = self._expected_s(rows, length)
            return Cell(rows, length, expected_s, expected_s, expected_s, 0, 0)
        p50, p95, p99 = (float(value) for value in np.percentile(counted, (50, 95, 99)))
        return Cell(rows, length, p50, p95, p99, len(counted), 0)


def _size(place: tuple[int, int]) -> tuple[int, int, int]:
    rows, length = place
    return rows * max(1, length), rows, length


def wants_measuring(terms: Terms, slo_s: float) -> bool:
    """Whether there are batches to be tried out: no profile, or one that was kept under a tighter SLO or for smaller batches."""
    profile = terms.profile
    if profile is None or profile.measured_rows[-1] < terms.limits.batch_rows:
        return True
    return any(not cell.samples and cell.p50_s <= MOST * slo_s for cell in profile.cells)
