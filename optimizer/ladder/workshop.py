"""Does tasks in processes of their own, or takes their results from the cache."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optimizer.ladder.isolate import OUT, Task, isolate
from optimizer.ladder.limits import Limits
from optimizer.lineage import Line
from optimizer.stages.base import Result
from optimizer.store import Store, stable_hash
from server.intake.measure import Progress
from server.intake.timer import now


@dataclass(frozen=True, slots=True)
class Order:
    """One task, and all that decides its result: `config`, the versions of `tools`, and `inputs` by digest. `what`: in messages."""

    what: str
    config: Mapping[str, Any]
    tools: Mapping[str, str]
    inputs: Mapping[str, str]
    task: Task

    @property
    def key(self) -> str:
        """Sha256 of what decides the result."""
        return stable_hash([type(self.task).__name__, self.config, self.tools, self.inputs])


@dataclass(frozen=True, slots=True)
class Piece:
    """A finished task: its files, its result, and its line for the lineage."""

    folder: Path
    result: Result
    line: Line


class Workshop:
    """Only results are kept: a task that crashed, or was killed, is tried again in the next run."""

    def __init__(self, store: Store, limits: Limits, progress: Progress) -> None:
        self._store = store
        self._limits = limits
        self._progress = progress
        self.last_said = ""

    @property
    def timings(self) -> Path:
        """A file that builders of engines keep beside the artifacts."""
        return (self._store.root / "tensorrt.timings").resolve()

    def do(self, order: Order) -> Piece:
        """Raises Ended when the task ends without a result; `last_said` is then the last thing that it was about to do."""
        kept = self._store.find(order.key)
        if kept is None:
            with self._store.scratch() as scratch:
                began_at = now()
                result = isolate(order.task, order.what, scratch, self._limits, self._hear)
                result.write(scratch / OUT)
                kept = self._store.keep(order.key, scratch / OUT, now() - began_at)
        line = Line(order.what, order.key, order.config, order.inputs, order.tools, kept.seconds, kept.digest)
        return Piece(kept.folder, Result.read(kept.folder), line)

    def _hear(self, what: str, done: int, total: int) -> None:
        self.last_said = what
        self._progress(what, done, total)
