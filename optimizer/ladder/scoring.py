"""The user's score of a candidate, and what it was asked for that: score() holds the labels, so its requests are the best there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing

from optimizer.checks.agreement import Answered
from optimizer.checks.score import Predict, predict_in_batches, run_score, session_predict
from optimizer.errors import SourceError, StageFailed
from optimizer.ladder.subject import Subject
from optimizer.sources.python_file import PythonFile
from server.backends.base import Array, Session

_N_SCORES = 2

MOST_OVERHEARD = 4096
"""Rows of score() that the plain export is asked, too."""


class _Overheard:
    """A predict for score() that remembers the first rows which it was asked, with the plain export's answers to them: mostly these are
    many more than the samples, so that slices by class are of some size."""

    def __init__(self, predict: Predict, plain: Predict) -> None:
        self._predict, self._plain = predict, plain
        self._n_rows = 0
        self.answers: list[Answered] = []

    def __call__(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        found = self._predict(inputs)
        rows = len(next(iter(inputs.values())))
        if rows and self._n_rows < MOST_OVERHEARD:
            self._n_rows += rows
            kept = {name: array.copy() for name, array in found.items()}  # score() may write into what it gets
            self.answers.append(Answered("a request of score()", self._plain(inputs), kept))
        return found


def scores_of(
    subject: Subject, session: Session, plain: Session, max_rows: int
) -> tuple[tuple[float, ...], Sequence[Answered]]:
    """What score() gives, each time that it is called, and what it asked for that. Raises SourceError when it raises, StageFailed when
    it gives something else at each call: that is no verdict to keep."""
    assert subject.source is not None, "only a Python file has a score"
    predict, original = (predict_in_batches(session_predict(one), max_rows) for one in (session, plain))
    overheard = _Overheard(predict, original)
    predicts: list[Predict] = [overheard, *[predict] * (_N_SCORES - 1)]
    with closing(PythonFile(subject.source)) as source:
        found = [run_score(source, one, lambda *_: None) for one in predicts]
    if any(value is None for value in found):
        raise SourceError(f"{subject.source}: score() was there a moment ago; do not change the file while it is optimized")
    if len(set(found)) > 1:
        runs = ", then ".join(f"{value:.6g}" for value in found)
        raise StageFailed(f"score() is not deterministic: {runs} for the same file; give it a fixed seed")
    return tuple(value for value in found if value is not None), overheard.answers
