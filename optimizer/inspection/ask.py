"""Asks versions, through the sessions that would serve them, and puts their answers side by side. Nothing is judged here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass

from optimizer.checks.agreement import Agreement, Answered, agree
from optimizer.checks.score import session_predict
from optimizer.errors import OptimizeError
from optimizer.inspection.versions import length_of
from server.backends.base import Array, BatchError, LoadError, Picked, Session
from server.intake.checks import excess


@dataclass(frozen=True, slots=True)
class Compared:
    """Two versions' answers to the same requests. `excess`: the greatest difference in units of the tolerance; above 1 they differ."""

    agreement: Agreement
    excess: float


def load(picked: Picked) -> Session:
    """A session for one thread. Raises OptimizeError with the library's reason."""
    try:
        return picked.backend.load(picked.files.folder, threads=1)
    except LoadError as error:
        raise OptimizeError(f"{picked.files.folder}: {picked.backend.runtime} cannot load it: {error}") from None


def compare(first: Picked, second: Picked, requests: Sequence[Mapping[str, Array]]) -> Compared:
    """The first one's answers are the original's. Raises OptimizeError when one fails, or the two do not have the same outputs."""
    manifest = first.files.manifest
    answers: list[Answered] = []
    with ExitStack() as opened:
        sessions = [opened.enter_context(closing(load(one))) for one in (first, second)]
        names = [sorted(spec.name for spec in session.outputs) for session in sessions]
        if names[0] != names[1]:
            raise OptimizeError(f"answers cannot be compared: the outputs are {names[0]} and {names[1]}")
        for request in requests:
            found = [_ask(session, request, one) for session, one in zip(sessions, (first, second), strict=True)]
            answers.append(Answered(f"request {len(answers)}", found[0], found[1], length_of(request, manifest)))
    worst = max(excess(one.found[name], one.wanted[name]) for one in answers for name in one.wanted)
    return Compared(agree(answers, manifest.text.embedding if manifest.text else None), worst)


def _ask(session: Session, request: Mapping[str, Array], picked: Picked) -> dict[str, Array]:
    try:
        return session_predict(session)(request)
    except BatchError as error:
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in request.items())
        raise OptimizeError(f"{picked.files.folder} fails on {shapes}: {error}") from None
