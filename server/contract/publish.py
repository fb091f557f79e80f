"""Durable, atomic publishing: a version appears whole by one rename, or not at all, whatever dies in between."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from server.contract.layout import STAGING, check_model_name, versions
from server.contract.wants import FILE as WANTS_FILE
from server.contract.wants import Wants


@contextmanager
def staging(repository: Path) -> Iterator[Path]:
    """A scratch folder on the repository's own file system, removed at the end whatever happened.

    It is locked while in use, so that `sweep` can tell a living owner from one that was killed.
    """
    root = repository / STAGING
    root.mkdir(parents=True, exist_ok=True)
    with _locked(repository):
        folder = Path(tempfile.mkdtemp(dir=root))
        lock = os.open(folder, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def sweep(repository: Path) -> list[Path]:
    """Remove what killed publishers left behind; returns the removed folders."""
    with _locked(repository):
        abandoned = [folder for folder in (repository / STAGING).glob("*/") if _is_abandoned(folder)]
        for folder in abandoned:
            shutil.rmtree(folder)
    return abandoned


def _is_abandoned(folder: Path) -> bool:
    """A living owner holds the lock; the kernel lets go of a dead one's."""
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
    return True


def publish(version_folder: Path, repository: Path, model: str, wants: Wants | None) -> int:
    """Move a finished, staged version folder into the repository and return its number, the next free one.

    `wants` replaces the model's model.toml; None keeps it (a new model needs one). All bytes reach the disk before
    the rename that makes them visible. Raises ContractError for a bad name, OSError when the disk refuses.
    """
    check_model_name(model)
    with _locked(repository):
        model_folder = repository / model
        number = (versions(model_folder) or [0])[-1] + 1
        _sync_tree(version_folder)
        if not model_folder.exists():
            _publish_new_model(version_folder, model_folder, number, wants)
            return number
        os.rename(version_folder, model_folder / str(number))
        _sync_folder(model_folder)
        if wants is not None:
            _replace(model_folder / WANTS_FILE, wants.to_toml())
        return number


def replace_wants(repository: Path, model: str, wants: Wants) -> None:
    """Rewrite the model.toml of an existing model, atomically. Raises OSError when the disk refuses."""
    with _locked(repository):
        _replace(repository / model / WANTS_FILE, wants.to_toml())


def _publish_new_model(version_folder: Path, model_folder: Path, number: int, wants: Wants | None) -> None:
    """The first version and model.toml become visible together: the whole model folder is renamed."""
    if wants is None:
        raise ValueError(f"model {model_folder.name!r} is new and needs its wants")
    staged = version_folder.parent / f"{version_folder.name}.model"
    staged.mkdir()
    os.rename(version_folder, staged / str(number))
    _replace(staged / WANTS_FILE, wants.to_toml())
    os.rename(staged, model_folder)
    _sync_folder(model_folder.parent)


def _replace(path: Path, text: str) -> None:
    """Write a small file so that readers see the old text or the new, never a part."""
    draft = path.with_name(f".{path.name}.new")
    draft.write_text(text, encoding="utf-8")
    _sync_file(draft)
    os.replace(draft, path)
    _sync_folder(path.parent)


@contextmanager
def _locked(repository: Path) -> Iterator[None]:
    """One publisher at a time per repository, across processes; the lock dies with its owner."""
    lock = os.open(repository, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _sync_tree(folder: Path) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            _sync_file(path)
    for path in [folder, *sorted(p for p in folder.rglob("*") if p.is_dir())]:
        _sync_folder(path)


def _sync_file(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


_sync_folder = _sync_file
