"""A repository and a cache for whole runs of a tiny checkpoint: the exporter's files are there already, tasks run in this process."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from optimizer.decoder import export, reference
from optimizer.decoder.job import Outcome, Request, optimize_decoder
from optimizer.decoder.trial import Gates
from optimizer.decoder.wish import Wish
from optimizer.errors import OptimizeError, StageFailed
from optimizer.ladder import workshop
from optimizer.ladder.isolate import OUT, End, Ended, Task
from optimizer.ladder.limits import Limits
from optimizer.stages.base import Result
from server.backends.onnx_decoder import OnnxDecoderBackend
from server.contract.layout import versions
from server.intake.measure import Effort, Progress

WISH = Wish(gates=Gates(max_rise=1000.0), slots=4, effort=Effort(cell_s=0.0, n_least=3, n_most=3))
"""Any candidate is good enough, and little is measured."""


class DecoderBench:
    """`ran`: names of the tasks that were not taken from the cache, in order. `before`: called with each of them before it runs."""

    def __init__(self, checkpoint: Path, built: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.checkpoint = checkpoint
        self.repository, self.cache = folder / "repository", folder / "cache"
        self.ran: list[str] = []
        self.told_of: list[tuple[str, bool, str]] = []
        self.before: Callable[[str], None] = lambda what: None
        monkeypatch.setattr(workshop, "isolate", self._here)
        monkeypatch.setattr(reference, "N_TEXTS", 4)
        monkeypatch.setattr(export, "build", lambda checkpoint, out, cache: shutil.copytree(built, out))

    def run(self, slo_s: float | None = 0.5, gap_s: float | None = None, wish: Wish = WISH, **changes: object) -> Outcome:
        self.ran.clear()
        self.told_of.clear()
        request = Request(
            self.checkpoint, self.repository, self.cache, slo_s, gap_s, "ferry optimize tiny", longest=128, wish=wish
        )
        return optimize_decoder(replace(request, **changes), OnnxDecoderBackend(), self)  # type: ignore[arg-type]

    @property
    def live(self) -> list[int]:
        return versions(self.repository / "tiny")

    def begin(self, stage: str) -> None:
        """Satisfies Watcher."""

    def step(self, what: str, done: int, total: int) -> None:
        """Satisfies Watcher."""

    def told(self, name: str, passed: bool, note: str) -> None:
        """Satisfies Watcher."""
        self.told_of.append((name, passed, note))

    def _here(self, task: Task, what: str, folder: Path, limits: Limits, progress: Progress) -> Result:
        """What isolate does, in this process."""
        self.ran.append(what)
        (folder / OUT).mkdir()
        try:
            self.before(what)
            return task(folder / OUT, progress)
        except (StageFailed, OptimizeError) as error:
            raise Ended(End.FAILED, str(error), "a log") from None
