"""Asks a candidate what PyTorch was asked when its answers were recorded. What the answers are worth is in agreement and edges."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from optimizer.checks.agreement import Agreement, Answered, agree
from optimizer.checks.edges import Edge, judge_edge
from optimizer.errors import StageFailed
from optimizer.stages.base import Result
from optimizer.stages.files import RECORDED, SAMPLES, read_arrays
from server.backends.base import Array, BatchError, Session
from server.intake.measure import Progress


def ask_samples(session: Session, built: Path, progress: Progress) -> Agreement:
    """Over all samples that the build stage, whose folder `built` is, has PyTorch's answers of; each alone, at its own length.

    Raises StageFailed when the candidate fails on one.
    """
    data = Result.read(built).data
    samples, recorded = read_arrays(built / SAMPLES), read_arrays(built / RECORDED)
    answers = []
    for place, (number, wanted) in enumerate(recorded.items()):
        progress("comparing answers", place, len(recorded))
        inputs = samples[number]
        try:
            found = answer(session, inputs)
        except BatchError as error:
            raise StageFailed(f"the candidate fails on sample {number}, where PyTorch does not: {error}") from None
        if set(found) != set(wanted):
            raise StageFailed(f"the candidate's outputs are {sorted(found)}, PyTorch's are {sorted(wanted)}")
        answers.append(Answered(wanted, found, _length(inputs, data["settings"]["axes"])))
    return agree(answers, data["settings"]["embedding"])


def ask_edges(session: Session, built: Path, progress: Progress) -> list[Edge]:
    """One verdict for each edge that the build stage has recorded."""
    edges = Result.read(built).data["edges"]
    found = []
    for place, edge in enumerate(edges):
        progress("asking at the edges", place, len(edges))
        arrays = read_arrays(built / edge["file"])
        found.append(
            judge_edge(edge["name"], edge["length"], arrays["out"], partial(answer, session, arrays["in"]), BatchError)
        )
    return found


def answer(session: Session, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The outputs by name. Raises BatchError."""
    return {spec.name: array for spec, array in zip(session.outputs, session.run(inputs), strict=True)}


def _length(inputs: Mapping[str, Array], axes: Mapping[str, Mapping[str, Any]]) -> int:
    """A sample's own size of the ragged axis, by the settings as JSON; 0 without one."""
    return next((inputs[name].shape[int(axis)] for name, free in axes.items() for axis in free), 0)
