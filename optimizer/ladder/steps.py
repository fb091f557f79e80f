"""From the name of a step, as a recipe writes it, to the step; and what must be installed for it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from optimizer.env import distributions_of
from optimizer.errors import OptimizeError
from optimizer.ladder.candidate import Step
from optimizer.sources.scan import scan_file
from optimizer.transforms.catalog import find_transform
from optimizer.transforms.options import settle
from server.contract.errors import ContractError


def find_step(name: str, options: Mapping[str, Any], folder: Path, where: str) -> Step:
    """`folder`: where the paths of users' files start. Raises ContractError beginning with `where`, and SourceError for a file that
    cannot be read or does not parse."""
    file, colon, function = name.rpartition(":")
    if not colon:
        try:
            return known_step(name, options)
        except OptimizeError as error:
            raise ContractError(f"{where}: {error}; a transform of your own is written file.py:function") from None
    if not file.endswith(".py") or not function.isidentifier():
        raise ContractError(f"{where}: {name!r} is not file.py:function")
    path = (folder / file).resolve()
    scan = scan_file(path)
    return Step(name, options, path, scan.digest(path.parent), tuple(sorted(distributions_of(scan.packages))))


def known_step(name: str, options: Mapping[str, Any] | None = None) -> Step:
    """One of the catalog's. Raises OptimizeError for another name, or an option that it does not take."""
    entry = find_transform(name)
    settle(name, entry.options, options or {})
    return Step(name, options or {}, tools=tuple(sorted(entry.distributions())))


def missing(step: Step) -> str | None:
    """What must be installed before it can run; None: nothing."""
    return None if step.file is not None else find_transform(step.name).missing()
