"""The table of system shared memory regions that clients have registered, and the parts of them that tensors occupy.

Tensors are copied by `pread` and `pwrite`, never through a mapping: what a client does to its memory meanwhile (shrink,
change, unlink) can then fail its own request only. Lives on the event loop; nothing of the protocols is here.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from server.errors import AlreadyExists, BadRequest, FerryError, NotFound, TooLarge, TurnedOff

FOLDER = Path("/dev/shm")
MOST_REGIONS = 256
"""Each holds a file descriptor, of which connections want some too."""

MOST_NAME_BYTES = 255

_KEY = re.compile(r"/*([^/\0]+)")
_FOREIGN_USE = b"sem."
"""Named semaphores are files of the same folder; a tensor written into one would break whoever waits for it."""

_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_ANYONE_MAY = stat.S_IROTH | stat.S_IWOTH


class Region:
    """A registered part of a shared memory object. Open until it is unregistered."""

    __slots__ = ("_file", "byte_size", "identity", "key", "name", "offset")

    def __init__(self, name: str, key: str, offset: int, byte_size: int, file: int) -> None:
        """`file`: a descriptor, from now on this region's own."""
        self.name, self.key, self.offset, self.byte_size = name, key, offset, byte_size
        self._file = file
        status = os.fstat(file)
        self.identity = (status.st_dev, status.st_ino)

    def __str__(self) -> str:
        return f"shared memory region {self.name!r}"

    def close(self) -> None:
        """From now on nothing is read or written any more. The descriptor's number may soon be another file's."""
        os.close(self._file)
        self._file = -1

    def read(self, offset: int, byte_size: int) -> memoryview:
        """A copy of a part that lies within the region. Raises BadRequest when its memory is gone."""
        self._check_open()
        view = np.empty(byte_size, np.uint8).data
        done = 0
        while done < byte_size:
            try:
                size = os.preadv(self._file, [view[done:]], self.offset + offset + done)
            except OSError as error:
                raise BadRequest(f"{self} cannot be read: {error.strerror}") from None
            if size == 0:
                raise self._shrunk()
            done += size
        return view

    def write(self, offset: int, data: Any) -> None:
        """`data`: bytes or a flat array of them, with room for it in the region. Raises BadRequest when its memory is gone or used up."""
        view = memoryview(data)
        at = self.offset + offset
        self.check_room(offset + len(view))
        done = 0
        while done < len(view):
            try:
                done += os.pwrite(self._file, view[done:], at + done)
            except OSError as error:
                raise BadRequest(f"{self} cannot be written: {error.strerror}") from None

    def check_room(self, end: int) -> None:
        """Raises BadRequest when the object has shrunk, or the region was unregistered: writing would make it grow again."""
        self._check_open()
        if os.fstat(self._file).st_size < self.offset + end:
            raise self._shrunk()

    def to_json(self) -> dict[str, Any]:
        """As the protocol tells it."""
        return {"name": self.name, "key": self.key, "offset": self.offset, "byte_size": self.byte_size}

    def _check_open(self) -> None:
        if self._file < 0:
            raise BadRequest(f"{self} was unregistered while the request ran; wait for its answer first")

    def _shrunk(self) -> BadRequest:
        size = os.fstat(self._file).st_size
        return BadRequest(
            f"{self} ends at byte {self.offset + self.byte_size} of {self.key!r}, which has shrunk to {size} bytes; unregister "
            "the region and register what is there"
        )


@dataclass(frozen=True, slots=True)
class Slot:
    """The part of a region that one tensor occupies; `offset` counts from the region's start, both in bytes."""

    region: Region
    offset: int
    byte_size: int

    def read(self) -> memoryview:
        """A copy. Raises BadRequest."""
        return self.region.read(self.offset, self.byte_size)

    def check(self, name: str, n_bytes: int) -> None:
        """Raises BadRequest when output `name` does not fit, or its memory is gone."""
        if n_bytes > self.byte_size:
            raise BadRequest(
                f"output {name!r} has {n_bytes} bytes, shared_memory_byte_size is {self.byte_size}; give it as many at least"
            )
        self.region.check_room(self.offset + n_bytes)

    def write(self, data: Any) -> None:
        """Raises BadRequest."""
        self.region.write(self.offset, data)

    def overlaps(self, other: Slot) -> bool:
        """Whether some bytes belong to both, through whatever regions."""
        if self.region.identity != other.region.identity:
            return False
        start, other_start = self.region.offset + self.offset, other.region.offset + other.offset
        return start < other_start + other.byte_size and other_start < start + self.byte_size


class Regions:
    """All regions by name."""

    def __init__(self, most_tensor_bytes: int, folder: Path = FOLDER) -> None:
        """`most_tensor_bytes`: the largest input that is copied in."""
        self._most_tensor_bytes = most_tensor_bytes
        self._folder = folder
        self._regions: dict[str, Region] = {}

    def register(self, name: object, key: object, offset: object, byte_size: object) -> None:
        """Raises AlreadyExists, or BadRequest for what cannot be a region or must not be one."""
        if not isinstance(name, str) or not 1 <= len(name.encode(errors="replace")) <= MOST_NAME_BYTES:
            raise BadRequest(f"a region's name must have 1 to {MOST_NAME_BYTES} bytes")
        if name in self._regions:
            raise AlreadyExists(
                f"shared memory region {name!r} is registered already; unregister it first, or take another name"
            )
        if len(self._regions) >= MOST_REGIONS:
            raise BadRequest(f"{MOST_REGIONS} shared memory regions are registered, which is the limit; unregister some")
        file = self._open(_object_name(key), str(key))
        try:
            start, size = _inside(str(key), os.fstat(file).st_size, offset, byte_size)
        except FerryError:
            os.close(file)
            raise
        self._regions[name] = Region(name, str(key), start, size, file)

    def unregister(self, name: str) -> None:
        """Harmless for a name that is not registered, as a client that was killed leaves others to clean up."""
        region = self._regions.pop(name, None)
        if region is not None:
            region.close()

    def unregister_all(self) -> None:
        while self._regions:
            self._regions.popitem()[1].close()

    def status(self, name: str = "") -> list[Region]:
        """One region, or all without a name. Raises NotFound."""
        return [self._find(name)] if name else list(self._regions.values())

    def slot(self, name: object, offset: object, byte_size: object, where: str) -> Slot:
        """What a tensor's parameters say; `where` begins the error. Raises NotFound or BadRequest."""
        if not isinstance(name, str):
            raise BadRequest(f"{where}: shared_memory_region must be the name of a region")
        region = self._find(name)
        if not _is_count(offset):
            raise BadRequest(f"{where}: shared_memory_offset must be a number of bytes that is not negative, found {offset!r}")
        if not _is_count(byte_size):
            raise BadRequest(
                f"{where}: shared_memory_byte_size must be a number of bytes that is not negative, found {byte_size!r}"
            )
        if offset + byte_size > region.byte_size:
            raise BadRequest(
                f"{where}: offset {offset} and byte_size {byte_size} end at byte {offset + byte_size}, {region} has {region.byte_size}"
            )
        return Slot(region, offset, byte_size)

    def check_copied(self, byte_size: int, where: str) -> None:
        """Raises TooLarge for an input that would take more memory than a body may."""
        if byte_size > self._most_tensor_bytes:
            raise TooLarge(
                f"{where} has {byte_size} bytes, {self._most_tensor_bytes} are allowed; send fewer rows or raise the server's "
                "max_body_bytes"
            )

    def _find(self, name: str) -> Region:
        region = self._regions.get(name)
        if region is None:
            raise NotFound(f"no shared memory region {name!r} is registered")
        return region

    def _open(self, name: bytes, key: str) -> int:
        """A descriptor of the object. Raises BadRequest for another kind of file, or one that the client might not open itself."""
        try:
            file = os.open(os.path.join(os.fsencode(self._folder), name), _FLAGS)
        except OSError as error:
            raise BadRequest(f"shared memory key {key!r} cannot be opened in {self._folder}: {error.strerror}") from None
        status = os.fstat(file)
        try:
            if not stat.S_ISREG(status.st_mode):
                raise BadRequest(f"shared memory key {key!r} is not a shared memory object")
            if status.st_uid != os.geteuid() and status.st_mode & _ANYONE_MAY != _ANYONE_MAY:
                raise BadRequest(
                    f"shared memory key {key!r} is neither the server's own user's nor readable and writable by everyone; run the "
                    "client as the server's user, or create the object with mode 0666"
                )
        except BadRequest:
            os.close(file)
            raise
        return file


def check_apart(slots: Sequence[Slot]) -> None:
    """Raises BadRequest when two outputs of one request would be written over each other."""
    for place, slot in enumerate(slots):
        if any(slot.overlaps(other) for other in slots[:place]):
            raise BadRequest("two outputs overlap in shared memory; give each an offset and a byte_size of its own")


def offered(regions: Regions | None, where: str) -> Regions:
    """The table of a server that has one. Raises TurnedOff."""
    if regions is None:
        raise TurnedOff(
            f"{where}: shared memory is turned off on this server; send tensors in the body, or start the server with "
            "--shared-memory on"
        )
    return regions


def _object_name(key: object) -> bytes:
    """The file's name of a POSIX shared memory name. Raises BadRequest."""
    match = _KEY.fullmatch(key) if isinstance(key, str) else None
    name = match[1].encode(errors="replace") if match else b"."
    if name in (b".", b"..") or len(name) > MOST_NAME_BYTES:
        raise BadRequest(
            f"'key' must be a POSIX shared memory name such as '/tensors', without another '/', found {str(key)[:80]!r}"
        )
    if name.startswith(_FOREIGN_USE):
        raise BadRequest(f"shared memory key {key!r} is the name of a semaphore")
    return name


def _is_count(value: object) -> TypeGuard[int]:
    return type(value) is int and value >= 0


def _inside(key: str, size: int, offset: object, byte_size: object) -> tuple[int, int]:
    """Offset and size, which must lie within an object of `size` bytes. Raises BadRequest."""
    if not _is_count(offset):
        raise BadRequest(f"'offset' must be a number of bytes that is not negative, found {offset!r}")
    if not _is_count(byte_size) or byte_size == 0:
        raise BadRequest(f"'byte_size' must be a number of bytes from 1, found {byte_size!r}")
    if offset + byte_size > size:
        raise BadRequest(
            f"offset {offset} and byte_size {byte_size} end at byte {offset + byte_size}, shared memory {key!r} has {size}"
        )
    return offset, byte_size
