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
    """Remove what killed publishers left behind; returns it. A publication that was already visible is completed."""
    with _locked(repository):
        abandoned = [folder for folder in (repository / STAGING).glob("*/") if _is_abandoned(folder)]
        for folder in abandoned:
            shutil.rmtree(folder)
        return abandoned + [draft for folder in sorted(repository.glob("*/")) for draft in _settle_all(folder)]


def _is_abandoned(folder: Path) -> bool:
    """A living owner holds the lock; the kernel lets go of a dead one's."""
    try:
        lock = os.open(folder, os.O_RDONLY)
    except (FileNotFoundError, PermissionError):
        return False  # its owner has just removed it, or is another user, whose affair it is
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

    With an old model and new wants two renames are needed. The version's comes first; after a crash between the two,
    `sweep` finds the draft of the wants, named after the version, and does the second.
    """
    check_model_name(model)
    with _locked(repository):
        model_folder = repository / model
        _settle_all(model_folder)
        number = (versions(model_folder) or [0])[-1] + 1
        _sync_tree(version_folder)
        if not model_folder.exists():
            _publish_new_model(version_folder, model_folder, number, wants)
            return number
        draft = None if wants is None else _draft(model_folder, str(number), wants)
        os.rename(version_folder, model_folder / str(number))
        _sync_folder(model_folder)
        if draft is not None:
            _settle(draft)
        return number


def replace_wants(repository: Path, model: str, wants: Wants) -> None:
    """Rewrite the model.toml of an existing model, atomically. Raises OSError when the disk refuses."""
    with _locked(repository):
        _replace(_draft(repository / model, "new", wants))


def _publish_new_model(version_folder: Path, model_folder: Path, number: int, wants: Wants | None) -> None:
    """The first version and model.toml become visible together: the whole model folder is renamed."""
    if wants is None:
        raise ValueError(f"model {model_folder.name!r} is new and needs its wants")
    staged = version_folder.parent / f"{version_folder.name}.model"
    staged.mkdir()
    os.rename(version_folder, staged / str(number))
    _replace(_draft(staged, "new", wants))
    os.rename(staged, model_folder)
    _sync_folder(model_folder.parent)


def _draft_name(version: str) -> str:
    return f".{WANTS_FILE}.{version}"


def _draft(model_folder: Path, version: str, wants: Wants) -> Path:
    """Write wants to disk beside model.toml, where readers do not look yet."""
    draft = model_folder / _draft_name(version)
    draft.write_text(wants.to_toml(), encoding="utf-8")
    _sync_file(draft)
    return draft


def _replace(draft: Path) -> None:
    """Readers see the old model.toml or the new, never a part."""
    os.replace(draft, draft.with_name(WANTS_FILE))
    _sync_folder(draft.parent)


def _settle_all(model_folder: Path) -> list[Path]:
    """Settle what a killed publisher of this model left; returns it."""
    drafts = sorted(model_folder.glob(_draft_name("*")))
    for draft in drafts:
        _settle(draft)
    return drafts


def _settle(draft: Path) -> None:
    """Put the draft in force if the version that it belongs to is there, else forget it."""
    if (draft.parent / draft.suffix[1:]).is_dir():
        _replace(draft)
    else:
        draft.unlink()


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
