"""The first judgement of a candidate, in its own process: loads, answers, score, a first look at speed; ends at the first failure."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from optimizer.checks.agreement import Agreement, agree
from optimizer.errors import StageFailed
from optimizer.ladder.answers import Broken, compare_answers
from optimizer.ladder.gates import Failed, Gate, Gates
from optimizer.ladder.limits import peak_resident_bytes
from optimizer.ladder.opening import open_file, served_files
from optimizer.ladder.reference import cases
from optimizer.ladder.scoring import scores_of
from optimizer.ladder.subject import Known, Subject, know, load
from optimizer.stages.base import Result
from server.backends.base import Array, Backend, BatchError, Session
from server.contract.device import this_device
from server.contract.tensors import TensorSpec
from server.intake.errors import IntakeError
from server.intake.inspect import read_signature
from server.intake.measure import Effort, Progress
from server.intake.timer import now

_LOOK_ROWS = (1, 4, 16)
_N_ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Examined:
    """What the first judgement found, up to the gate that failed, if one did. `scores`: of each run; `look`: by batch, how many times
    the plain export's speed, each on all cores; `rows_per_s`: the most that was seen then."""

    failed: Failed | None
    agreement: Agreement | None = None
    scores: tuple[float, ...] = ()
    look: Mapping[str, float] | None = None
    rows_per_s: float = 0.0

    def to_json(self) -> dict[str, Any]:
        failed = self.failed
        return {
            "failed": None if failed is None else {"gate": failed.gate.name, "reason": failed.reason},
            "agreement": None if self.agreement is None else self.agreement.to_json(),
            "scores": list(self.scores),
            "look": None if self.look is None else dict(self.look),
            "rows_per_s": self.rows_per_s,
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Examined:
        """What to_json made."""
        failed = data["failed"]
        return Examined(
            None if failed is None else Failed(Gate[failed["gate"]], failed["reason"]),
            None if data["agreement"] is None else Agreement.from_json(data["agreement"]),
            tuple(data["scores"]),
            data["look"],
            data["rows_per_s"],
        )


@dataclass(frozen=True, slots=True)
class ExamineTask:
    """`model`: the candidate's file, which `backend` is to serve; `engine`: what was built of it, where the backend wants that."""

    subject: Subject
    model: Path
    backend: Backend
    gates: Gates
    engine: Path | None = None

    def __call__(self, out: Path, progress: Progress) -> Result:
        """Gates LOADS, ANSWERS, EDGES, SCORE and SLICES, and the figures for LOOK. Raises SourceError when the score function raises,
        StageFailed when it gives something else at each call: that is no verdict to keep."""
        subject, cores = self.subject, this_device(self.backend.runtime).cores
        progress("loading", 0, 4)
        with ExitStack() as stack:
            plain = stack.enter_context(closing(load(subject.plain, subject.folder, cores)))
            try:
                files = served_files(self.backend, self.model, self.engine)
                session = stack.enter_context(closing(open_file(self.backend, files, out.parent / "load", cores)))
                _check_tensors(session, plain)
            except (StageFailed, IntakeError) as error:
                return _result(Examined(Failed(Gate.LOADS, str(error))))
            known = know(subject, plain)
            progress("comparing answers", 1, 4)
            agreement = compare_answers(session, cases(subject.built, known, plain), subject.embedding)
            if isinstance(agreement, Broken):
                return _result(Examined(Failed(Gate.EDGES if agreement.edge else Gate.ANSWERS, agreement.reason)))
            before = subject.score
            failed = self.gates.answers(agreement, before is not None) or self.gates.edges(agreement)
            if failed is not None:
                return _result(Examined(failed, agreement))
            progress("scoring", 2, 4)
            scores: tuple[float, ...] = ()
            if before is not None:
                scores, asked = scores_of(subject, session, plain, known.max_rows)
                agreement = agreement.with_classes_of(agree(asked, subject.embedding)) if asked else agreement
                failed = self.gates.score(before, scores[0])
            failed = failed or self.gates.slices(agreement, before is not None)
            if failed is not None:
                return _result(Examined(failed, agreement, scores))
            progress("a first look at speed", 3, 4)
            return _result(Examined(None, agreement, scores, *first_look(session, plain, known, subject.options.effort)))


@dataclass(frozen=True, slots=True)
class WeighTask:
    """What a process has resident at most that loads the model for one thread and runs its largest batch."""

    subject: Subject
    model: Path
    backend: Backend
    engine: Path | None = None

    def __call__(self, out: Path, progress: Progress) -> Result:
        progress("weighing", 0, 1)
        files = served_files(self.backend, self.model, self.engine)
        with closing(open_file(self.backend, files, out.parent / "load", threads=1)) as session:
            known = know(self.subject, session)
            try:
                session.run(known.samples.batch(known.max_rows, known.lengths[-1]))
            except BatchError as error:
                raise StageFailed(f"fails on its largest batch: {error}") from None
        n_bytes = peak_resident_bytes()
        return Result(f"{n_bytes / 1e6:.0f} MB resident", None, {"bytes": n_bytes})


def first_look(session: Session, plain: Session, known: Known, effort: Effort) -> tuple[dict[str, float], float]:
    """By batch, how many times as fast as the plain export: medians of turns that alternate, so that what disturbs the machine
    disturbs both. And the most rows per second that were seen of it."""
    length = known.lengths[len(known.lengths) // 2]
    ratios, rows_per_s = {}, 0.0
    for rows in sorted({min(rows, known.max_rows) for rows in _LOOK_ROWS}):
        batch = known.samples.batch(rows, length)
        times: tuple[list[float], list[float]] = ([], [])
        for one in (session, plain):
            one.run(batch)
        for _ in range(_N_ROUNDS):
            for one, mine in zip((session, plain), times, strict=True):
                _time(one, batch, mine, effort)
        ratios[f"{rows} row{'s' * (rows > 1)}"] = round(median(times[1]) / median(times[0]), 3)
        rows_per_s = max(rows_per_s, rows / median(times[0]))
    return ratios, rows_per_s


def _time(session: Session, batch: Mapping[str, Array], times: list[float], effort: Effort) -> None:
    """A turn: one run at least, until its share of the time is used."""
    stop_at = now() + effort.cell_s / 2 / _N_ROUNDS
    n_least = len(times) + 1
    while len(times) < n_least or (now() < stop_at and len(times) < effort.n_most):
        began_at = now()
        session.run(batch)
        times.append(now() - began_at)


def _check_tensors(session: Session, plain: Session) -> None:
    """Raises StageFailed when a tensor is not what the plain export has."""
    mine, wanted = (read_signature(one.inputs, one.outputs) for one in (session, plain))
    pairs = [*zip(mine.inputs, wanted.inputs, strict=False), *zip(mine.outputs, wanted.outputs, strict=False)]
    sizes = (len(mine.inputs), len(mine.outputs)), (len(wanted.inputs), len(wanted.outputs))
    if sizes[0] != sizes[1]:
        raise StageFailed(
            f"has {sizes[0][0]} inputs and {sizes[0][1]} outputs, the plain export has {sizes[1][0]} and {sizes[1][1]}"
        )
    for one, other in pairs:
        if not _is_like(one, other):
            raise StageFailed(f"has tensor {_shown(one)} where the plain export has {_shown(other)}")


def _is_like(one: TensorSpec, other: TensorSpec) -> bool:
    """Names of free axes may differ, and a size may be known to one only."""
    sizes = zip(one.shape, other.shape, strict=False)
    same = len(one.shape) == len(other.shape) and all(a == b for a, b in sizes if isinstance(a, int) and isinstance(b, int))
    return same and (one.name, one.datatype) == (other.name, other.datatype)


def _shown(spec: TensorSpec) -> str:
    return f"{spec.name} {spec.datatype.value} [{', '.join(str(dim) for dim in spec.shape)}]"


def _result(examined: Examined) -> Result:
    note = examined.failed.reason if examined.failed else examined.agreement.sentence() if examined.agreement else ""
    return Result(note, None, {"examined": examined.to_json()})
