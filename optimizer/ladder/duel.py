"""The finalists measured against each other, in turns: their profiles are taken minutes apart, and no machine is as fast all the time.

What is measured here are ratios, from the same rounds; they put the profiles on one pace. Deciding is for decide.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Protocol

from optimizer.ladder.opening import open_file, served_files
from optimizer.ladder.subject import Subject, know
from optimizer.lineage import Line
from optimizer.stages.base import Result
from server.backends.base import Array, Backend, Session
from server.contract.profile import Placement, Profile
from server.intake.measure import Effort, Progress, time_batches

N_ROUNDS = 7
"""An odd number, so that the median is one of them; a disturbance has to last for four to count."""

_ROWS = (1, 4, 16)


@dataclass(frozen=True, slots=True)
class Size:
    """A batch that all rivals run. `length`: 0 without a ragged axis."""

    rows: int
    length: int


@dataclass(frozen=True, slots=True)
class Rival:
    """A finalist: `model`, or the `engine` that was built of it, by `backend`, with as many batches at a time as `placement` says."""

    model: Path
    backend: Backend
    placement: Placement
    engine: Path | None = None


class Timed(Protocol):
    """Who takes turns."""

    def time(self, size: Size) -> float:
        """Seconds of a batch, in one turn."""


Rounds = Sequence[Sequence[Sequence[float]]]
"""By rival, by size: seconds in each round."""


@dataclass(frozen=True, slots=True)
class Duel:
    """How finalists came out against each other. By name: `rates`, how many times the first one's, and `paces`. `note`: for people; both
    are empty, and `line`, of the lineage, is None, where it says why there was no duel."""

    note: str
    rates: Mapping[str, float]
    paces: Mapping[str, float]
    line: Line | None = None

    def on_one_pace(self, name: str, profile: Profile) -> Profile:
        """A profile of `name`; who was no rival is left alone."""
        return at_pace(profile, self.paces[name]) if name in self.paces else profile


@dataclass(frozen=True, slots=True)
class DuelTask:
    """Ends in the figure "seconds", which are Rounds."""

    subject: Subject
    rivals: tuple[Rival, ...]
    sizes: tuple[Size, ...]

    def __call__(self, out: Path, progress: Progress) -> Result:
        """Raises StageFailed when a rival does not load, BatchError when one fails."""
        progress("loading the finalists", 0, N_ROUNDS)
        with ExitStack() as stack:
            runners: list[_Runner] = []
            for number, rival in enumerate(self.rivals):
                folder = out.parent / f"rival-{number}"
                files = served_files(rival.backend, rival.model, rival.engine)
                session = stack.enter_context(closing(open_file(rival.backend, files, folder, rival.placement.threads)))
                known = know(self.subject, session)
                batches = {size: known.samples.batch(size.rows, size.length) for size in self.sizes}
                runners.append(_Runner(session, rival.placement.instances, batches, self.subject.options.effort))
            seconds = take_turns(runners, self.sizes, progress)
        return Result(f"{len(runners)} finalists in turns, {N_ROUNDS} rounds", None, {"seconds": seconds})


class _Runner:
    """Times batches with all instances of a placement busy, as a profile does."""

    def __init__(self, session: Session, instances: int, batches: Mapping[Size, dict[str, Array]], effort: Effort) -> None:
        self._session, self._instances, self._batches = session, instances, batches
        self._turn = replace(effort, cell_s=effort.cell_s / N_ROUNDS, n_least=1)

    def time(self, size: Size) -> float:
        """Satisfies Timed. The first run of each turn is not counted: the others have used the caches since, and its threads sleep."""
        return median(time_batches(self._session, self._instances, self._batches[size], self._turn, warm_up=True))


def duel_sizes(max_rows: int, lengths: Sequence[int]) -> tuple[Size, ...]:
    """A few batches of the middle one of `lengths`, which are in order, and single rows of the first and the last."""
    middle = lengths[len(lengths) // 2]
    sizes = [Size(rows, middle) for rows in sorted({min(rows, max_rows) for rows in _ROWS})]
    return tuple(dict.fromkeys([*sizes, Size(1, lengths[0]), Size(1, lengths[-1])]))


def take_turns(rivals: Sequence[Timed], sizes: Sequence[Size], progress: Progress) -> list[list[list[float]]]:
    """Rounds. Every other round goes in the reverse order, so that nobody always comes first."""
    seconds: list[list[list[float]]] = [[[] for _ in sizes] for _ in rivals]
    for number in range(N_ROUNDS):
        progress("measuring the finalists in turns", number, N_ROUNDS)
        order = list(range(len(rivals)))
        for place, size in enumerate(sizes):
            for rival in order if number % 2 == 0 else reversed(order):
                seconds[rival][place].append(rivals[rival].time(size))
    return seconds


def speeds(rounds: Rounds) -> list[float]:
    """How many times as fast as the first one each rival is: by size the median of the rounds' ratios, of these the geometric mean."""
    first = rounds[0]
    return [
        _mean([median([a / b for a, b in zip(*pair, strict=True)]) for pair in zip(first, mine, strict=True)]) for mine in rounds
    ]  # fmt: skip


def paces(profiles: Sequence[Profile], rounds: Rounds, sizes: Sequence[Size]) -> list[float]:
    """What the times of each rival's profile have to be multiplied with, so that they are as far from those of the first one as they
    were in the same rounds."""
    first, *_ = profiles
    by_profile = [
        _mean([first.predict(size.rows, size.length) / one.predict(size.rows, size.length) for size in sizes]) for one in profiles
    ]  # fmt: skip
    return [told / found for told, found in zip(by_profile, speeds(rounds), strict=True)]


def at_pace(profile: Profile, pace: float) -> Profile:
    """The same with all times multiplied."""
    cells = [replace(cell, p50_s=cell.p50_s * pace, p95_s=cell.p95_s * pace, p99_s=cell.p99_s * pace) for cell in profile.cells]
    return replace(profile, cells=tuple(cells))


def _mean(ratios: Sequence[float]) -> float:
    """Geometric."""
    return math.exp(sum(math.log(ratio) for ratio in ratios) / len(ratios))
