"""The vocabulary of stages: what one reads, what it writes, and the verdict it may give on the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from server.contract.layout import read_json, write_json
from server.contract.manifest import Check
from server.intake.measure import Progress

_RESULT = "result.json"


@dataclass(frozen=True, slots=True)
class Result:
    """What a stage found: a gate's verdict (None: it is no gate), a line for people, and figures for the report."""

    note: str
    check: Check | None = None
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """False only for a gate that rejects the model."""
        return self.check is None or self.check.passed

    def write(self, folder: Path) -> None:
        """Into a stage's folder, where the report finds it."""
        check = None if self.check is None else asdict(self.check)
        write_json(folder / _RESULT, {"note": self.note, "check": check, "data": dict(self.data)})

    @staticmethod
    def read(folder: Path) -> Result:
        """What `write` wrote."""
        found = read_json(folder / _RESULT, str(folder / _RESULT))
        return Result(found["note"], Check(**found["check"]) if found["check"] else None, found["data"])


def verdict(name: str, passed: bool, detail: str, data: Mapping[str, Any] | None = None) -> Result:
    """The result of a gate; `detail` holds the figure that decided it."""
    return Result(detail, Check(name, passed, detail), data or {})


Run = Callable[[Mapping[str, Path], Path, Progress], Result]
"""(folders of the inputs by stage name, empty folder for the output, progress) → result. Raises StageFailed, SourceError."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of a plan. `reads`: earlier stages, "source". `config` and `tools`: all else that decides its output."""

    name: str
    reads: tuple[str, ...]
    config: Mapping[str, Any]
    tools: Mapping[str, str]
    run: Run
