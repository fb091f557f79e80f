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
from server.contract.accelerator import BuiltFor


@dataclass(frozen=True, slots=True)
class Compiled:
    """The engine that was built of a graph's file for one card."""

    file: Path
    sha256: str
    built_for: BuiltFor


@dataclass(frozen=True, slots=True)
class Graph:
    """The file that a chain of steps made; `n_bytes`: of the one that is loaded; `notes`: what each step says of it. `compiled`: what was
    built of it, where the backend wants that."""

    file: Path
    sha256: str
    n_bytes: int
    notes: tuple[str, ...] = ()
    compiled: Compiled | None = None

    @property
    def engine(self) -> Path | None:
        """The engine's file."""
        return None if self.compiled is None else self.compiled.file

    @property
    def digests(self) -> dict[str, str]:
        """Of all files, for keys."""
        return {"model": self.sha256} | ({} if self.compiled is None else {"engine": self.compiled.sha256})


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
