"""Latency profile: times every cell of rows × length with all instances of a placement busy at once.

Measured through the Session that will serve; nothing here knows which library that is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from server.backends.base import Array, Session
from server.contract.device import Device
from server.contract.profile import Cell, Placement, Profile
from server.intake.samples import Samples
from server.intake.timer import now

Progress = Callable[[str, int, int], None]
"""Called with what is being done, steps finished and steps in all."""

Load = Callable[[int], Session]
"""Loads the model for so many threads per call."""

FRONT_END_ROWS_PER_S = 60_000
"""More than one process can parse and answer: past this a placement gains nothing by taking more cores."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure a cell: at least `n_least` batches per instance, then until `cell_s` or `n_most`."""

    cell_s: float = 0.25
    n_least: int = 3
    n_most: int = 400


def grid_rows(max_rows: int) -> tuple[int, ...]:
    """1, 2, 4 … max_rows."""
    doubling = [1 << n for n in range(max_rows.bit_length())]
    return tuple(dict.fromkeys([*(r for r in doubling if r <= max_rows), max_rows]))


def grid_lengths(shortest: int, longest: int) -> tuple[int, ...]:
    """Powers of two from 8 between the two ends, and the ends."""
    doubling = [1 << n for n in range(3, longest.bit_length())]
    return tuple(sorted({shortest, longest, *(n for n in doubling if shortest < n < longest)}))


def choose_placement(
    load: Load, samples: Samples, max_rows: int, lengths: Sequence[int], cores: int, progress: Progress
) -> Placement:
    """The placement with the highest rate on a coarse grid; the smaller one when it already outruns the front end.

    Candidates: one thread; one instance on all cores; one single-threaded instance per core.
    """
    candidates = dict.fromkeys([Placement(1, 1), Placement(1, cores), Placement(cores, 1)])
    middle = lengths[len(lengths) // 2]
    rows = [r for r in grid_rows(max_rows) if r in (1, 4, 16) or r == max_rows][:3]
    best, best_rate = Placement(1, 1), 0.0
    for number, placement in enumerate(candidates):
        progress(f"placement {placement}", number, len(candidates))
        with closing(load(placement.threads)) as session:
            rate = max(_rate(session, placement, samples.batch(r, middle)) for r in rows)
        if rate > best_rate:
            best, best_rate = placement, rate
        if rate > FRONT_END_ROWS_PER_S:
            return placement
    return best


def measure_profile(
    session: Session,
    placement: Placement,
    device: Device,
    samples: Samples,
    rows: Sequence[int],
    lengths: Sequence[int],
    progress: Progress,
    effort: Effort,
) -> Profile:
    """Times all of `rows` × `lengths`; smallest first, so that `memory_bytes` grows with the batch that needed it."""
    base = _resident_bytes()
    cells: list[Cell] = []
    for length in lengths:
        for count in rows:
            progress(f"{count} rows" + (f" of length {length}" if length else ""), len(cells), len(rows) * len(lengths))
            times = _time_batches(session, placement.instances, samples.batch(count, length), effort)
            p50, p95, p99 = (float(value) for value in np.percentile(times, (50, 95, 99)))
            cells.append(Cell(count, length, p50, p95, p99, len(times), max(0, _resident_bytes() - base)))
    return Profile(device, placement, tuple(cells))


def _rate(session: Session, placement: Placement, batch: dict[str, Array]) -> float:
    times = _time_batches(session, placement.instances, batch, Effort(cell_s=0.15, n_least=3, n_most=100))
    return placement.instances * len(next(iter(batch.values()))) / float(np.median(times))


def _time_batches(session: Session, instances: int, batch: dict[str, Array], effort: Effort) -> list[float]:
    """Seconds of each run, from all instances. An error in any of them is raised here."""
    session.run(batch)
    times: list[list[float]] = [[] for _ in range(instances)]
    errors: list[Exception] = []
    start = threading.Barrier(instances)

    def work(mine: list[float]) -> None:
        try:
            start.wait()
            stop_at = now() + effort.cell_s
            while len(mine) < effort.n_least or (len(mine) < effort.n_most and now() < stop_at):
                began_at = now()
                session.run(batch)
                mine.append(now() - began_at)
        except Exception as error:  # handed to the caller below: a thread has nobody to raise to
            errors.append(error)
            start.abort()

    threads = [threading.Thread(target=work, args=(mine,)) for mine in times[1:]]
    for thread in threads:
        thread.start()
    work(times[0])
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return [value for mine in times for value in mine]


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096
