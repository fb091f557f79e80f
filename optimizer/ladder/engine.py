"""Builds the engine of a candidate in its own process: for which sizes, tuned for how many rows. How it is built: optimizer.tensorrt."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from optimizer.errors import StageFailed
from optimizer.ladder.here import Build
from optimizer.ladder.opening import open_file
from optimizer.ladder.subject import Known, Subject, know, load
from optimizer.stages.base import Result
from optimizer.tensorrt.bounds import bounds_of
from optimizer.tensorrt.build import EngineWish, Products
from server.backends.base import Backend, BatchError, Session
from server.contract.accelerator import BuiltFor
from server.contract.fields import Fields
from server.intake.measure import Effort, Progress, grid_rows, time_batches

KNEE = 0.95
"""The fewest rows at which a card reaches so much of its best rate are the ones for which kernels are chosen."""


@dataclass(frozen=True, slots=True)
class EngineTask:
    """Writes the backend's model file from `model`. `meter`: a backend on the same card that takes the file as it is, by which the rows
    are found to tune for; None: the largest batch is. `timings`: a file outside, kept between builds; it decides how long one
    takes, not what it may be."""

    subject: Subject
    model: Path
    backend: Backend
    products: Products
    build: Build
    meter: Backend | None
    timings: Path

    def __call__(self, out: Path, progress: Progress) -> Result:
        """Raises StageFailed with the library's reason."""
        accelerator = self.backend.accelerator
        if accelerator is None:
            raise StageFailed("the card is gone: the driver does not describe it any more; look at `ferry doctor`")
        with closing(load(self.subject.plain, self.subject.folder)) as plain:
            known = know(self.subject, plain)
        progress("looking for the rows to tune for", 0, 2)
        knee, found_by = self._knee(known, out.parent / "meter")
        progress("building the engine", 1, 2)
        bounds = bounds_of(known.signature.inputs, known.ragged, known.max_rows, knee)
        wish = EngineWish(bounds, self.products)
        engine = self.build(self.model, out / self.backend.model_file, wish, self.timings)
        profiles = f"{len(bounds)} profile{'s' * (len(bounds) > 1)}"
        note = f"engine of {engine.n_bytes / 1e6:.2f} MB for {accelerator.name}, {profiles}, tuned for {knee} rows ({found_by})"
        return Result(note, None, {"built_for": BuiltFor(accelerator, self.backend.runtime).to_json(), "knee": knee})

    def _knee(self, known: Known, folder: Path) -> tuple[int, str]:
        """And how it was found, in words."""
        if self.meter is None:
            return known.max_rows, "the largest batch: no other library here calculates on the card"
        try:
            with closing(open_file(self.meter, {self.meter.model_file: self.model}, folder, threads=1)) as session:
                rates = rates_by_rows(session, known, self.subject.options.effort)
        except (StageFailed, BatchError) as error:
            return known.max_rows, f"the largest batch: {self.meter.name} cannot measure the file: {error}"
        return knee_of(rates), f"{KNEE:.0%} of the best rate by {self.meter.name}"


def rates_by_rows(session: Session, known: Known, effort: Effort) -> dict[int, float]:
    """Rows per second in batches of 1, 2, 4 … rows of the middle length, one after the other."""
    length = known.lengths[len(known.lengths) // 2]
    return {
        rows: rows / median(time_batches(session, 1, known.samples.batch(rows, length), effort, warm_up=True))
        for rows in grid_rows(known.max_rows)
    }


def knee_of(rates: Mapping[int, float]) -> int:
    """The fewest rows that reach KNEE of the best rate."""
    best = max(rates.values())
    return min(rows for rows, rate in rates.items() if rate >= KNEE * best)


def built_for_of(result: Result) -> BuiltFor:
    """What EngineTask says that its engine needs."""
    return BuiltFor.from_json(Fields(result.data["built_for"], "engine"))
