"""The user's own score, once with PyTorch and once with the exported model; too large a drop rejects the export."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from optimizer.errors import SourceError
from optimizer.sources.python_file import PythonFile
from optimizer.stages.base import Result, verdict
from server.backends.base import Array, Backend, Session
from server.intake.measure import Progress

Predict = Callable[[Mapping[str, Array]], dict[str, Array]]
"""Arrays [n, …] by input name → arrays [n, …] by output name, for any n."""


def score(
    inputs: Mapping[str, Path], out: Path, progress: Progress, *, source: PythonFile, backend: Backend, max_loss: float
) -> Result:
    """Gate: the exported model may lose at most `max_loss` points (hundredths) of the score."""
    built = Result.read(inputs["build"]).data
    before = built["score"]
    if before is None:
        return Result("no score() given: parity alone decides")
    session = backend.load(inputs["export"], threads=1)
    try:
        after = run_score(source, predict_in_batches(session_predict(session), built["settings"]["max_rows"]), progress)
    finally:
        session.close()
    assert after is not None, "the file that scored the module still has its score function"
    loss = (before - after) * 100
    detail = f"{after:.4f}, PyTorch {before:.4f}: {_loss(loss)} (allowed: {max_loss:g})"
    return verdict("score", loss <= max_loss, detail, {"torch": before, "exported": after, "loss_points": loss})


def run_score(source: PythonFile, predict: Predict, progress: Progress) -> float | None:
    """The score, or None when the file has no score function. Raises SourceError when it is not a finite number."""
    if not source.has("score"):
        return None
    progress("scoring", 0, 1)
    value = source.call("score", predict)
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not math.isfinite(value):
        raise SourceError(f"{source.path}: score() returned {value!r}; return a finite number, 0 to 1, higher is better")
    return float(value)


def predict_in_batches(predict: Predict, max_rows: int) -> Predict:
    """The same function, asked for at most `max_rows` rows at a time: what the server would do."""

    def whole(inputs: Mapping[str, Array]) -> dict[str, Array]:
        rows = len(next(iter(inputs.values())))
        parts = [
            predict({name: array[start : start + max_rows] for name, array in inputs.items()})
            for start in range(0, max(rows, 1), max_rows)
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    return whole


def session_predict(session: Session) -> Predict:
    """Answers of a loaded model."""

    def predict(inputs: Mapping[str, Array]) -> dict[str, Array]:
        answers: Sequence[Array] = session.run(inputs)
        return {spec.name: array for spec, array in zip(session.outputs, answers, strict=True)}

    return predict


def _loss(points: float) -> str:
    return "no loss" if points <= 0 else f"a loss of {points:.2f} points"
