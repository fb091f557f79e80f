"""What every run has to do with the repository, whatever it optimizes: is a version there from an equal run, what becomes of model.toml,
how a version is published, where the report of a rejected one lies. Decides nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from optimizer.lineage import run_end
from server.contract.errors import ContractError
from server.contract.layout import VersionFiles, read_version, versions
from server.contract.publish import publish, replace_wants, staging, sweep
from server.contract.wants import FILE as WANTS_FILE
from server.contract.wants import Wants, read_wants


class Verdict(Enum):
    """How a run ended."""

    PUBLISHED = "published"
    UNCHANGED = "unchanged"
    REJECTED = "rejected"


def newest_of_run(model_folder: Path, key: str) -> VersionFiles | None:
    """The newest version, when an equal run made it and it is whole, with what was measured of it."""
    numbers = versions(model_folder)
    if not numbers or run_end(model_folder / str(numbers[-1])).key != key:
        return None
    try:
        found = read_version(model_folder, numbers[-1])
    except ContractError:
        return None
    return None if found.profiles is None and found.steps is None else found


@dataclass(frozen=True, slots=True)
class Objectives:
    """What is asked of a model's objectives; None: what its model.toml says. `wants`: what came of both when the run began, which counts
    where there is no such file."""

    wants: Wants
    slo_s: float | None
    gap_s: float | None = None


def keep_wants(repository: Path, name: str, asked: Objectives) -> None:
    """Write a model's model.toml, if need be."""
    changed = _changed(repository, name, asked)
    if changed is not None:
        replace_wants(repository, name, changed)


def publish_version(repository: Path, name: str, asked: Objectives, fill: Callable[[Path], VersionFiles]) -> VersionFiles:
    """The version as it lies in the repository (made, if need be). `fill`: writes all its files into an empty folder, and reads them
    back. Raises ContractError when model.toml cannot be read."""
    repository.mkdir(parents=True, exist_ok=True)
    sweep(repository)
    with staging(repository) as scratch:
        folder = scratch / "version"
        folder.mkdir()
        files = fill(folder)
        number = publish(folder, repository, name, _changed(repository, name, asked))
    return replace(files, folder=repository / name / str(number), version=number)


def rejected_folder(cache: Path, name: str, key: str, log: str | None) -> Path:
    """An empty folder beside the cache for the report, with what the tool that failed had printed. The repository is not touched."""
    folder = cache / "rejected" / f"{name}-{key[:12]}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if log:
        (folder / "tool.log").write_text(log, encoding="utf-8")
    return folder


def _changed(repository: Path, name: str, asked: Objectives) -> Wants | None:
    """By what model.toml says now, for people may have edited it while the run took its time; None when it says so already: it is
    rewritten only where it must be."""
    path = repository / name / WANTS_FILE
    if not path.exists():
        return asked.wants
    found = read_wants(path)
    wanted = found.asked(asked.slo_s, asked.gap_s)
    return None if wanted == found else wanted
