"""Unpacking an uploaded version folder: flat, regular files only, bounded in number and size."""

from __future__ import annotations

import lzma
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from server.intake.errors import IntakeError

MAX_FILES = 64
MOST_OF_DISK = 0.5
"""Of what is free: the upload itself lies on the same disk, and so do the models that serve."""

_CHUNK = 1 << 20
_MOST_IN_HEADER = 65536
_SPARSE = "the archive holds a sparse file, whose map may be of any length; pack it without --sparse"

_DAMAGE = (
    tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError, NotImplementedError,
    RuntimeError,
)  # fmt: skip
"""All that the two libraries raise for damaged and unusual archives."""


class _Header(tarfile.TarInfo):
    """What a tar says of one member. Long names and other attributes are members of their own, which the library reads whole, however
    large they say they are and however small they were packed."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type == tarfile.GNUTYPE_SPARSE:
            raise IntakeError(_SPARSE)
        if self.type not in (*tarfile.REGULAR_TYPES, tarfile.DIRTYPE) and self.size > _MOST_IN_HEADER:
            raise IntakeError(f"a header in the archive has {self.size} bytes; {_MOST_IN_HEADER} are possible")
        found: tarfile.TarInfo = super()._proc_member(archive)  # type: ignore[misc]  # the library's own, and not in its signatures
        return found

    def _proc_gnusparse_10(self, *_: object) -> None:
        """The other way to write a sparse file: its map is as long as it says."""
        raise IntakeError(_SPARSE)


def is_archive(path: Path) -> bool:
    """A tar (plain or compressed) or a zip, by content."""
    try:
        if zipfile.is_zipfile(path):
            return True
        with tarfile.open(path, tarinfo=_Header):
            return True
    except IntakeError:
        return True  # why it is refused is told when it is unpacked
    except _DAMAGE:
        return False


@dataclass(frozen=True, slots=True)
class Room:
    """How many bytes an archive may become, and which bound that is."""

    n_bytes: int
    why: str


def unpack(archive: Path, folder: Path, most_bytes: int) -> None:
    """Write the archive's files into the new `folder`; one leading folder common to all of them is dropped.

    Raises IntakeError for links, devices, paths that escape, sub-folders, and anything over the limits, of which
    `most_bytes` for all files together is one and the room on the disk another.
    """
    folder.mkdir()
    room = _room(folder, most_bytes)
    try:
        members = _zip_members(archive) if zipfile.is_zipfile(archive) else _tar_members(archive)
        _write_all(members, folder, room)
    except IntakeError:
        raise
    except _DAMAGE as error:
        raise IntakeError(f"the archive is damaged or uses a feature that is not supported: {error}") from None


def _room(folder: Path, most_bytes: int) -> Room:
    free = int(MOST_OF_DISK * shutil.disk_usage(folder).free)
    if free < most_bytes:
        return Room(free, f"{MOST_OF_DISK:.0%} of what is free on the repository's disk; make room there")
    return Room(most_bytes, "the server's max_upload_bytes; raise it")


def _write_all(members: Iterator[tuple[str, IO[bytes]]], folder: Path, room: Room) -> None:
    total, leading = 0, None
    for number, (path, file) in enumerate(members):
        if number >= MAX_FILES:
            raise IntakeError(f"the archive holds more than {MAX_FILES} files")
        parent, name = _split(path)
        if number and parent != leading:
            raise IntakeError(f"{path!r} in the archive does not lie beside the other files; pack one version folder")
        leading = parent
        total += _write(folder / name, file, total, room)


def _zip_members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            if info.is_dir():
                continue
            if (info.external_attr >> 16) & 0o170000 not in (0, 0o100000):
                raise IntakeError(f"{info.filename!r} in the archive is not a regular file")
            with opened.open(info) as file:
                yield info.filename, file


def _tar_members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with tarfile.open(archive, tarinfo=_Header) as opened:
        for number, info in enumerate(opened):
            if number >= 2 * MAX_FILES:
                raise IntakeError(f"the archive holds more than {MAX_FILES} files and as many folders")
            if info.isdir():
                continue
            file = opened.extractfile(info) if info.isreg() else None
            if file is None:
                raise IntakeError(f"{info.name!r} in the archive is not a regular file")
            yield info.name, file


def _split(path: str) -> tuple[str, str]:
    """The leading folder ("" without one) and the bare name."""
    parts = [part for part in PurePosixPath(path.replace("\\", "/")).parts if part != "."]
    if not parts or ".." in parts or parts[0].startswith("/") or len(parts) > 2:
        raise IntakeError(f"{path!r} in the archive does not lie directly in the version folder")
    return "/".join(parts[:-1]), parts[-1]


def _write(path: Path, file: IO[bytes], before: int, room: Room) -> int:
    """Bytes written; `before` it were so many already."""
    size = 0
    with path.open("xb") as out:
        while chunk := file.read(_CHUNK):
            size += len(chunk)
            if before + size > room.n_bytes:
                raise IntakeError(f"the archive unpacks to more than {room.n_bytes} bytes, which is {room.why}")
            out.write(chunk)
    return size
