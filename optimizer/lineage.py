"""lineage.jsonl: one line per stage, from which a version can be reproduced and an unchanged run recognised."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from server.contract.layout import LINEAGE, describe_file

PUBLISH = "publish"
"""Name of the last line's stage; its key is that of the whole run."""


@dataclass(frozen=True, slots=True)
class Line:
    """One stage as it ran: `inputs` and `output` are sha256 digests, `seconds` the time of the run that made it."""

    stage: str
    key: str
    config: Mapping[str, Any]
    inputs: Mapping[str, str]
    tools: Mapping[str, str]
    seconds: float
    output: str


def write_lineage(folder: Path, lines: Iterable[Line]) -> str:
    """Write the file into a version folder and return its sha256."""
    path = folder / LINEAGE
    path.write_text("".join(json.dumps(asdict(line)) + "\n" for line in lines), encoding="utf-8")
    return describe_file(path).sha256


def read_lineage(folder: Path) -> list[dict[str, Any]]:
    """The lines as JSON; empty where a version does not come from the optimizer."""
    path = folder / LINEAGE
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


@dataclass(frozen=True, slots=True)
class RunEnd:
    """Key of the run that made a version (None: it does not come from the optimizer), and what its decision depended on besides."""

    key: str | None
    config: Mapping[str, Any]


def run_end(folder: Path) -> RunEnd:
    """From the last line of a version's lineage."""
    lines = read_lineage(folder)
    last = lines[-1] if lines else {}
    return RunEnd(last["key"], last["config"]) if last.get("stage") == PUBLISH else RunEnd(None, {})
