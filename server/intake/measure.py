"""Latency profiles: times every cell of rows × length with all instances of a placement busy at once.

Measured through the Session that will serve; nothing here knows which library that is.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from server.backends.base import Array, Session
from server.contract.device import Device
from server.contract.profile import Cell, Placement, Profile
from server.contract.profiles import Profiles
from server.intake.samples import Samples
from server.intake.timer import now

Progress = Callable[[str, int, int], None]
"""Called with what is being done, steps finished and steps in all."""

Load = Callable[[int], Session]
"""Loads the model for so many threads per call."""

FRONT_END_ROWS_PER_S = 60_000
"""More than one process can parse and answer: past this a placement gains nothing by taking more cores."""


N_ROUNDS = 3
"""All is measured so many times over, a little each time, one placement after the other for each batch: what disturbs the machine
for a while then disturbs all placements alike, and no median by itself."""

QUICKER = 1.1
"""A placement whose batches take so many times less is worth measuring although another one has the higher rate."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure batches of one size: at least `n_least` of them at each placement, then until `cell_s` for all
    placements together, or `n_most` for each."""

    cell_s: float = 0.25
    n_least: int = 3
    n_most: int = 400


COARSE = Effort(cell_s=0.45, n_least=3, n_most=100)
"""For the first look at three placements."""


@dataclass(slots=True)
class Contender:
    """A placement with the times of its batches, by rows and length, in seconds. `grown_bytes`: what the process grew by meanwhile.
    `on_card`: what is taken of a card's memory since before the model was loaded; None: it is on none."""

    placement: Placement
    session: Session
    times: dict[tuple[int, int], list[float]] = field(default_factory=dict)
    grown_bytes: int = 0
    memory_bytes: dict[tuple[int, int], int] = field(default_factory=dict)
    on_card: Callable[[], int] | None = None

    def rate(self, rows: int, length: int) -> float:
        """Rows per second, all instances together."""
        return self.placement.instances * rows / self.median_s(rows, length)

    def median_s(self, rows: int, length: int) -> float:
        """Time of a batch."""
        return float(np.median(self.times[rows, length]))

    def measure(self, batch: dict[str, Array], rows: int, length: int, effort: Effort) -> bool:
        """One round's share of the measurements of a batch size; False when there are enough of them already."""
        times = self.times.setdefault((rows, length), [])
        instances = self.placement.instances
        spent_s = sum(times) / instances
        if len(times) >= effort.n_least and (spent_s >= effort.cell_s or len(times) >= effort.n_most * instances):
            return False
        before = _resident_bytes()
        n_most = min(-(-effort.n_most // N_ROUNDS), effort.n_most - len(times) // instances)
        a_round = Effort(effort.cell_s / N_ROUNDS, 1, max(1, n_most))
        times += time_batches(self.session, instances, batch, a_round, warm_up=not times)
        self.grown_bytes += max(0, _resident_bytes() - before)
        self.memory_bytes.setdefault((rows, length), self.grown_bytes if self.on_card is None else self.on_card())
        return True

    def cell(self, rows: int, length: int) -> Cell:
        """What was measured, for the profile."""
        times = self.times[rows, length]
        p50, p95, p99 = (float(value) for value in np.percentile(times, (50, 95, 99)))
        return Cell(rows, length, p50, p95, p99, len(times), self.memory_bytes[rows, length])


def grid_rows(max_rows: int) -> tuple[int, ...]:
    """1, 2, 4 … max_rows."""
    doubling = [1 << n for n in range(max_rows.bit_length())]
    return tuple(dict.fromkeys([*(r for r in doubling if r <= max_rows), max_rows]))


def grid_lengths(shortest: int, longest: int) -> tuple[int, ...]:
    """Powers of two from 8 between the two ends, and the ends."""
    doubling = [1 << n for n in range(3, longest.bit_length())]
    return tuple(sorted({shortest, longest, *(n for n in doubling if shortest < n < longest)}))


def measure_placements(
    load: Load,
    device: Device,
    samples: Samples,
    rows: Sequence[int],
    lengths: Sequence[int],
    progress: Progress,
    effort: Effort,
    taken: Callable[[], int] | None = None,
) -> Profiles:
    """Times all of `rows` × `lengths` at each placement that may be the best one for some SLO.

    Candidates: one thread; one instance on all cores; one single-threaded instance per core. On a card: one batch in flight, or two,
    so that one is copied while the other one is calculated. The first in the result has the highest rate. `taken`: tells how many bytes
    of the card's memory are taken now, by whomever; None: it is not on a card.
    """
    on_card = None if taken is None else _since(taken)
    cores = device.cores
    several = [Placement(1, cores), Placement(cores, 1)] if device.accelerator is None else [Placement(2, 1)]
    candidates = dict.fromkeys([Placement(1, 1), *several])
    with ExitStack() as open_sessions:
        threads = dict.fromkeys(placement.threads for placement in candidates)
        sessions = {n: open_sessions.enter_context(closing(load(n))) for n in threads}
        contenders = [Contender(placement, sessions[placement.threads], on_card=on_card) for placement in candidates]
        best = _worth_measuring(contenders, samples, rows, lengths[len(lengths) // 2], progress)
        share = replace(effort, cell_s=effort.cell_s / len(best))
        _measure_in_rounds(best, samples, [(r, n) for n in lengths for r in rows], share, progress)
    return Profiles(tuple(_profile(one, device, rows, lengths) for one in best))


def _worth_measuring(
    contenders: Sequence[Contender], samples: Samples, rows: Sequence[int], length: int, progress: Progress
) -> list[Contender]:
    """By a first look at few batch sizes: those that no other one beats in both rate and time, highest rate first; of those that
    outrun the front end, only the smallest. All start anew."""
    few = [r for r in rows if r in (1, 4, 16) or r == rows[-1]][:3]
    left = list(contenders)
    for number in range(N_ROUNDS):
        progress("comparing placements", number, N_ROUNDS)
        for count in few:
            batch = samples.batch(count, length)
            for contender in left:
                contender.measure(batch, count, length, replace(COARSE, cell_s=COARSE.cell_s / len(contenders)))
        fast = [n for n, one in enumerate(left) if max(one.rate(r, length) for r in few) > FRONT_END_ROWS_PER_S]
        left = left[: fast[0] + 1] if fast else left
    kept = [one for one in left if not any(_is_beaten(one, other, few, length) for other in left if other is not one)]
    kept.sort(key=lambda one: max(one.rate(r, length) for r in few), reverse=True)
    return [Contender(one.placement, one.session, on_card=one.on_card) for one in kept]


def _since(taken: Callable[[], int]) -> Callable[[], int]:
    """How much more is taken than now."""
    before = taken()
    return lambda: max(0, taken() - before)


def _is_beaten(one: Contender, other: Contender, rows: Sequence[int], length: int) -> bool:
    """Whether there is no batch size at which it has the higher rate or is clearly quicker."""
    return all(
        other.rate(r, length) > one.rate(r, length) and other.median_s(r, length) < QUICKER * one.median_s(r, length)
        for r in rows
    )


def _measure_in_rounds(
    contenders: Sequence[Contender], samples: Samples, sizes: Sequence[tuple[int, int]], effort: Effort, progress: Progress
) -> None:
    """Smallest first, so that `memory_bytes` grows with the batch that needed it."""
    for number in range(N_ROUNDS):
        for place, (rows, length) in enumerate(sizes):
            what = f"{rows} rows" + (f" of length {length}" if length else "")
            progress(what, number * len(sizes) + place, N_ROUNDS * len(sizes))
            batch = samples.batch(rows, length)
            for contender in contenders:
                contender.measure(batch, rows, length, effort)


def _profile(contender: Contender, device: Device, rows: Sequence[int], lengths: Sequence[int]) -> Profile:
    cells = tuple(contender.cell(r, n) for n in lengths for r in rows)
    return Profile(device, contender.placement, cells)


def time_batches(session: Session, instances: int, batch: dict[str, Array], effort: Effort, warm_up: bool) -> list[float]:
    """Seconds of each run, from all instances at once: at least `effort.n_least` of each, then until `effort.cell_s`, or `effort.n_most`.
    `warm_up`: after one that is not counted. An error in any of them is raised here."""
    if warm_up:
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
    return pages * os.sysconf("SC_PAGE_SIZE")
