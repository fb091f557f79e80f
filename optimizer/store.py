"""The content-addressed cache: immutable folders by key. Deleting it, or any part of it, is always safe."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server.contract.errors import ContractError
from server.contract.layout import describe_file, read_json, write_json
from server.contract.publish import staging, sweep

_RECORD = "artifact.json"
_KEY_CHARACTERS = 32


@dataclass(frozen=True, slots=True)
class Artifact:
    """One finished stage: its files, their digest, and how long it took when it ran."""

    folder: Path
    digest: str
    seconds: float


class Store:
    """Artifacts under `root`, which is created, and hidden from git, on first use."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def find(self, key: str) -> Artifact | None:
        """The artifact made under this key, or None; a damaged one is removed."""
        home = self._home(key)
        if not (home / _RECORD).exists():
            return None
        try:
            record = read_json(home / _RECORD, str(home / _RECORD))
            found = Artifact(home / "files", record["digest"], record["seconds"])
        except (ContractError, KeyError, TypeError):
            found = None
        if found is None or digest_folder(found.folder) != found.digest:
            shutil.rmtree(home)
            return None
        return found

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """An empty folder on the cache's own disk, removed at the end."""
        self._create()
        with staging(self.root) as folder:
            yield folder

    def keep(self, key: str, folder: Path, seconds: float) -> Artifact:
        """Move a finished scratch folder in. When another run was faster, its artifact stays."""
        digest = digest_folder(folder)
        with self.scratch() as draft:
            whole = draft / "whole"
            whole.mkdir()
            os.rename(folder, whole / "files")
            write_json(whole / _RECORD, {"digest": digest, "seconds": round(seconds, 3)})
            home = self._home(key)
            home.parent.mkdir(exist_ok=True)
            if self.find(key) is None:
                shutil.rmtree(home, ignore_errors=True)  # what is left of one whose record is gone
                os.rename(whole, home)
        found = self.find(key)
        assert found is not None, "an artifact just stored is readable"
        return found

    def _home(self, key: str) -> Path:
        return self.root / "stages" / key[:_KEY_CHARACTERS]

    def _create(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        ignore = self.root / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n", encoding="utf-8")
        sweep(self.root)


def stable_hash(data: Any) -> str:
    """Sha256 of JSON-like data, the same for equal data."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def digest_folder(folder: Path) -> str:
    """Sha256 over the names and contents of all files below `folder`."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return stable_hash([[path.relative_to(folder).as_posix(), describe_file(path).sha256] for path in files])
