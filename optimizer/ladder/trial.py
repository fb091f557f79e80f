"""What became of a candidate: all that was found until the gate that it failed, or the last one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from optimizer.ladder.candidate import Candidate
from optimizer.ladder.examine import Examined
from optimizer.ladder.gates import Failed
from optimizer.ladder.measure import Measured
from optimizer.lineage import Line


@dataclass(frozen=True, slots=True)
class Graph:
    """The file that a chain of steps made; `notes`: what each step says of it."""

    file: Path
    sha256: str
    n_bytes: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Trial:
    """`failed` None: it passed all gates so far. What comes after the gate that it failed is None. `lines`: of the lineage, of what
    was made for it. `fallback`: its file on the backend that is always there, where its own is another one and it was about to win."""

    candidate: Candidate
    failed: Failed | None = None
    graph: Graph | None = None
    examined: Examined | None = None
    memory_bytes: int | None = None
    measured: Measured | None = None
    fallback: Measured | None = None
    lines: Sequence[Line] = ()

    @property
    def name(self) -> str:
        """The candidate's."""
        return self.candidate.name
