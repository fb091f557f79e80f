"""Asks a candidate what the original was asked. What its answers are worth is in checks.agreement."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from optimizer.checks.agreement import Agreement, Answered, Kind, agree
from optimizer.checks.score import session_predict
from server.backends.base import Array, BatchError, Session


@dataclass(frozen=True, slots=True)
class Case:
    """One batch, and what the original answers to it, by output name. All else as in Answered."""

    place: str
    inputs: Mapping[str, Array]
    wanted: Mapping[str, Array]
    length: int = 0
    kind: Kind = Kind.SAMPLE
    edge: str = ""


@dataclass(frozen=True, slots=True)
class Broken:
    """The first answer that is none: a failure, a wrong shape, not finite where the original's is. `edge`: as in Case."""

    reason: str
    edge: str = ""


def compare_answers(session: Session, cases: Iterable[Case], embedding: str | None = None) -> Agreement | Broken:
    """Runs all of `cases`, until one is broken. `embedding`: the output that is one, if somebody said so."""
    ask, answered = session_predict(session), []
    for case in cases:
        try:
            found = ask(case.inputs)
        except BatchError as error:
            return Broken(f"fails on {case.place}, where the original does not: {error}", case.edge)
        for name, wanted in case.wanted.items():
            broken = _broken(name, found[name], wanted, case.place)
            if broken is not None:
                return Broken(broken, case.edge)
        answered.append(Answered(case.place, case.wanted, found, case.length, case.kind, case.edge))
    return agree(answered, embedding)


def _broken(name: str, mine: Array, theirs: Array, place: str) -> str | None:
    if mine.shape != theirs.shape or mine.dtype != theirs.dtype:
        found, wanted = f"{mine.dtype} {list(mine.shape)}", f"{theirs.dtype} {list(theirs.shape)}"
        return f"output {name!r} is {found} for {place}, the original's is {wanted}"
    if mine.dtype.kind == "f" and (np.isfinite(theirs) & ~np.isfinite(mine)).any():
        return f"output {name!r} is not finite for {place}, where the original's is"
    return None
