"""From the name of a step, as a recipe writes it, to the step; and what must be installed for it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from optimizer.env import distributions_of
from optimizer.ladder.candidate import Step
from optimizer.sources.scan import scan_file
from server.contract.errors import ContractError


def find_step(name: str, options: Mapping[str, Any], folder: Path, where: str) -> Step:
    """`folder`: where the paths of users' files start. Raises ContractError beginning with `where`, and SourceError for a file that
    cannot be read or does not parse."""
    file, colon, function = name.rpartition(":")
    if not colon:
        raise ContractError(f"{where}: unknown step {name!r}; for a transform of your own write file.py:function")
    if not file.endswith(".py") or not function.isidentifier():
        raise ContractError(f"{where}: {name!r} is not file.py:function")
    path = (folder / file).resolve()
    scan = scan_file(path)
    return Step(name, options, path, scan.digest(path.parent), tuple(sorted(distributions_of(scan.packages))))
