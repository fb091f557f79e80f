"""Shared memory for the fuzzers: what requests say about it, and the mischief that is done to it meanwhile."""

from __future__ import annotations

import errno
import os
import random
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

FOLDER = Path("/dev/shm")
OBJECTS = [f"ferry-fuzz-{number}" for number in range(4)]
REGIONS = [f"fuzz-{number}" for number in range(8)]
SIZE = 65536
PAUSE_S = 0.002
BAIT = b"nobody may write here" * 100

HOSTILE_KEYS = [
    "", "/", ".", "..", "/..", "../proc/version", "/proc/version", "//", "///x", "a/b", "x\0y", "\ud7ff", "a" * 256, "é" * 200, "sem.x",
    "/sem.x", "ferry-fuzz-none", "\n", "/dev/shm/ferry-fuzz-0", "%2e%2e", " ",
]  # fmt: skip
NUMBERS = [0, 1, 16, 100, 4096, SIZE - 16, SIZE, SIZE + 1, 2**31, 2**63 - 1, 2**63, 2**64 - 1]
ODD = [-1, 1.5, True, "16", None, 2**64, [], {}]


def registration(rng: random.Random) -> dict[str, Any]:
    """The body of a registration; three in four are legal while the objects have their size."""
    if rng.random() < 0.75:
        return {
            "key": "/" + rng.choice(OBJECTS),
            "offset": rng.choice((0, 0, 100)),
            "byte_size": rng.choice((16, 4096, SIZE - 100)),
        }
    key = rng.choice([*HOSTILE_KEYS, *OBJECTS])
    return {"key": key, "offset": rng.choice(NUMBERS), "byte_size": rng.choice([*NUMBERS, *NUMBERS, *ODD])}


def place(rng: random.Random, byte_size: int) -> dict[str, Any]:
    """The parameters of a tensor of so many bytes; most are legal."""
    found: dict[str, Any] = {"shared_memory_region": rng.choice(REGIONS), "shared_memory_byte_size": byte_size}
    if rng.random() < 0.4:
        found["shared_memory_offset"] = rng.choice(NUMBERS[:6])
    if rng.random() < 0.2:
        found[rng.choice(("shared_memory_byte_size", "shared_memory_offset"))] = rng.choice([*NUMBERS, *ODD])
    return found


def shared_request(rng: random.Random, mark: dict[str, Any]) -> tuple[str, str, Any]:
    """Method, path and JSON (None: no body) of a request of the extension, or of one whose tensors lie in shared memory."""
    kind = rng.randrange(12)
    if kind < 3:
        return "POST", f"/v2/systemsharedmemory/region/{rng.choice(REGIONS)}/register", registration(rng)
    if kind == 3:
        name = rng.choice(REGIONS)
        return rng.choice([
            ("GET", "/v2/systemsharedmemory/status", None), ("GET", f"/v2/systemsharedmemory/region/{name}/status", None),
            ("POST", f"/v2/systemsharedmemory/region/{name}/unregister", None), ("POST", "/v2/cudasharedmemory/unregister", None),
            ("POST", "/v2/systemsharedmemory/unregister", None) if rng.random() < 0.05 else ("GET", "/v2", None),
        ])  # fmt: skip
    if kind < 8:
        item = {"name": "x", "shape": [1, 4], "datatype": "FP32", "parameters": place(rng, 16)}
        header: dict[str, Any] = {**mark, "inputs": [item]}
        if rng.random() < 0.6:
            header["outputs"] = [{"name": "y", "parameters": place(rng, 16)}]
        return "POST", "/v2/models/affine/infer", header
    if kind < 10:
        values = {"shape": [1, 2], "datatype": "FP32"}
        inputs = [{"name": "a", **values, "parameters": place(rng, 8)}, {"name": "b", **values, "data": [1, 2]}]
        outputs = [{"name": name, "parameters": place(rng, rng.choice((8, 8, 7)))} for name in ("sum", "difference")]
        return "POST", "/v2/models/two/infer", {**mark, "inputs": inputs, "outputs": outputs}
    name, datatype = rng.choice((("id_bytes", "BYTES"), ("id_bool", "BOOL")))
    size = rng.choice((2, 8, 16, 100))
    item = {"name": "x", "shape": [1, 2], "datatype": datatype, "parameters": place(rng, size)}
    return (
        "POST",
        f"/v2/models/{name}/infer",
        {**mark, "inputs": [item], "outputs": [{"name": "y", "parameters": place(rng, size)}]},
    )


class Mischief:
    """Another process's bad manners: objects that shrink, vanish, change their kind. A context manager with a thread.

    Links point to a file of its own, which must come out of it as it was; nothing here follows them.
    """

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._bait = FOLDER / f"ferry-bait-{os.getpid()}"
        self.n_done = 0

    def __enter__(self) -> Mischief:
        self._bait.write_bytes(BAIT)
        for name in OBJECTS:
            _make(FOLDER / name)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        for name in OBJECTS:
            _remove(FOLDER / name)
        found = self._bait.read_bytes()
        self._bait.unlink()
        assert found == BAIT, "the server wrote through a symbolic link"

    def _run(self) -> None:
        while not self._stop.wait(PAUSE_S):
            with suppress(OSError):  # it is no regular file at the moment, or another fuzzer is at the same objects
                self._step(FOLDER / self._rng.choice(OBJECTS))
            self.n_done += 1

    def _step(self, path: Path) -> None:
        kind = self._rng.randrange(10)
        if kind < 7:
            with _opened(path) as file:
                self._damage(file, kind)
        elif kind == 7:
            _remove(path)
            self._rng.choice((lambda: path.symlink_to(self._bait), lambda: os.mkfifo(path), path.mkdir))()
        else:
            _make(path)

    def _damage(self, file: int, kind: int) -> None:
        if kind < 4:
            os.ftruncate(file, self._rng.choice((0, 100, 4096, SIZE, SIZE, SIZE)))
        elif kind < 6:
            os.ftruncate(file, SIZE)
            os.pwrite(file, self._rng.randbytes(self._rng.choice((100, SIZE))), 0)
        else:
            os.fchmod(file, self._rng.choice((0, 0o200, 0o666)))


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """A regular file to write, never what a link points to and never waiting. Raises OSError for another kind."""
    file = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        yield file
    finally:
        os.close(file)


def _make(path: Path) -> None:
    """A fresh object; whoever has the old one open keeps that."""
    _remove(path)
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    os.ftruncate(file, SIZE)
    os.close(file)


def _remove(path: Path) -> None:
    try:
        is_folder = stat.S_ISDIR(path.lstat().st_mode)
        if is_folder:
            path.rmdir()
        else:
            path.unlink()
    except FileNotFoundError:
        return
