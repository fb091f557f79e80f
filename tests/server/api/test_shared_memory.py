"""The table of shared memory regions by itself: what may be registered, and what happens when the memory changes."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from server.api import shared_memory as module
from server.api.shared_memory import MOST_REGIONS, Region, Regions, check_apart
from server.errors import AlreadyExists, BadRequest, NotFound, TooLarge

MOST_BYTES = 1000


@pytest.fixture
def table(tmp_path: Path) -> Iterator[Regions]:
    """Regions over the files of a folder, of which `tensors` has 64 bytes."""
    (tmp_path / "tensors").write_bytes(bytes(range(64)))
    made = Regions(MOST_BYTES, tmp_path)
    yield made
    made.unregister_all()


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_what_is_registered_is_listed_and_can_be_forgotten(table: Regions) -> None:
    table.register("r", "/tensors", 8, 16)
    table.register("s", "tensors", 0, 64)
    assert [one.to_json() for one in table.status("r")] == [{"name": "r", "key": "/tensors", "offset": 8, "byte_size": 16}]
    assert [one.name for one in table.status()] == ["r", "s"]
    table.unregister("r")
    table.unregister("r")  # a name that is not there is harmless
    assert [one.name for one in table.status()] == ["s"]
    table.unregister_all()
    assert table.status() == []
    with pytest.raises(NotFound, match="'r'"):
        table.status("r")


def test_a_name_is_registered_once_even_for_the_same_memory(table: Regions) -> None:
    table.register("r", "tensors", 0, 64)
    with pytest.raises(AlreadyExists, match="'r' is registered already; unregister it first"):
        table.register("r", "tensors", 0, 64)


def test_regions_may_overlap_because_all_is_copied(table: Regions) -> None:
    table.register("r", "tensors", 0, 32)
    table.register("s", "tensors", 16, 32)
    table.slot("r", 16, 4, "x").write(b"abcd")
    assert bytes(table.slot("s", 0, 4, "x").read()) == b"abcd"


@pytest.mark.parametrize("key", [
    None, 5, "", "/", "//", ".", "/..", "..", "../tensors", "a/b", "/tmp/x", "tensors/", "x\0y", "n" * 256, "é" * 128, "\ud800" * 2 + "/",
])  # fmt: skip
def test_a_key_is_a_plain_name(table: Regions, key: object) -> None:
    with pytest.raises(BadRequest, match=r"POSIX shared memory name|cannot be opened"):
        table.register("r", key, 0, 1)


def test_files_that_are_no_shared_memory_are_refused(table: Regions, tmp_path: Path) -> None:
    (tmp_path / "sem.lock").write_bytes(bytes(32))
    (tmp_path / "link").symlink_to(tmp_path / "tensors")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    before = open_files()
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(tmp_path / "socket"))
        for key, says in [
            ("sem.lock", "semaphore"), ("link", "cannot be opened"), ("folder", "cannot be opened"), ("socket", "cannot be opened"),
            ("fifo", "not a shared memory object"), ("nosuch", "No such file"),
        ]:  # fmt: skip
            with pytest.raises(BadRequest, match=says):
                table.register("r", key, 0, 1)
    assert open_files() == before


def test_only_what_the_client_might_open_itself_is_opened_for_it(
    table: Regions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.os, "geteuid", lambda: os.getuid() + 1)
    before = open_files()
    for mode in (0o600, 0o660, 0o664, 0o606 & ~0o002):
        (tmp_path / "tensors").chmod(mode)
        with pytest.raises(BadRequest, match="neither the server's own user's nor readable and writable by everyone"):
            table.register("r", "tensors", 0, 1)
    assert open_files() == before
    (tmp_path / "tensors").chmod(0o666)
    table.register("r", "tensors", 0, 1)


@pytest.mark.parametrize(("offset", "byte_size", "says"), [
    (-1, 4, "'offset' must be"), (True, 4, "'offset' must be"), (0.0, 4, "'offset' must be"), ("0", 4, "'offset' must be"),
    (0, 0, "'byte_size' must be"), (0, -1, "'byte_size' must be"), (0, None, "'byte_size' must be"), (0, [], "'byte_size' must be"),
    (0, 65, "end at byte 65, shared memory 'tensors' has 64"), (64, 1, "end at byte 65"), (2**64 - 1, 1, "has 64"), (1, 2**64, "has 64"),
])  # fmt: skip
def test_a_region_lies_within_its_object(table: Regions, offset: object, byte_size: object, says: str) -> None:
    before = open_files()
    with pytest.raises(BadRequest, match=says):
        table.register("r", "tensors", offset, byte_size)
    assert open_files() == before


@pytest.mark.parametrize("name", ["", "x" * 256, None, 7])
def test_a_region_has_a_name_of_bounded_length(table: Regions, name: object) -> None:
    with pytest.raises(BadRequest, match="name must have 1 to 255 bytes"):
        table.register(name, "tensors", 0, 1)


def test_the_number_of_regions_is_bounded(table: Regions) -> None:
    for number in range(MOST_REGIONS):
        table.register(f"r{number}", "tensors", 0, 1)
    with pytest.raises(BadRequest, match=f"{MOST_REGIONS} shared memory regions are registered, which is the limit"):
        table.register("one more", "tensors", 0, 1)


@pytest.mark.parametrize(("name", "offset", "byte_size", "says"), [
    (None, 0, 1, "must be the name of a region"), ("r", -1, 1, "shared_memory_offset must be"), ("r", "0", 1, "offset must be"),
    ("r", 0, None, "shared_memory_byte_size must be"), ("r", 0, 1.0, "byte_size must be"), ("r", 0, True, "byte_size must be"),
    ("r", 0, 17, "end at byte 17, shared memory region 'r' has 16"), ("r", 16, 1, "has 16"), ("r", 2**64, 2**64, "has 16"),
])  # fmt: skip
def test_a_tensor_lies_within_its_region(table: Regions, name: object, offset: object, byte_size: object, says: str) -> None:
    table.register("r", "tensors", 8, 16)
    with pytest.raises(BadRequest, match=f"input 'x'.*{says}"):
        table.slot(name, offset, byte_size, "input 'x'")


def test_a_tensor_needs_a_region_that_is_there(table: Regions) -> None:
    with pytest.raises(NotFound, match="no shared memory region 'r' is registered"):
        table.slot("r", 0, 1, "input 'x'")


def test_reading_copies(table: Regions, tmp_path: Path) -> None:
    table.register("r", "tensors", 8, 16)
    slot = table.slot("r", 2, 4, "x")
    copy = slot.read()
    (tmp_path / "tensors").write_bytes(bytes(64))
    assert bytes(copy) == bytes([10, 11, 12, 13])
    assert bytes(table.slot("r", 16, 0, "x").read()) == b""


@pytest.mark.parametrize("size", [0, 8, 20])
def test_an_object_that_shrank_fails_who_uses_it_and_does_not_grow_again(table: Regions, tmp_path: Path, size: int) -> None:
    table.register("r", "/tensors", 8, 16)
    slot = table.slot("r", 0, 16, "x")
    os.truncate(tmp_path / "tensors", size)
    for use in (slot.read, lambda: slot.check("y", 16), lambda: slot.write(bytes(16))):
        with pytest.raises(BadRequest, match=f"ends at byte 24 of '/tensors', which has shrunk to {size} bytes"):
            use()
    assert (tmp_path / "tensors").stat().st_size == size


def test_an_object_that_shrinks_while_it_is_read_is_noticed(
    table: Regions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read may give less than it was asked for, and the next one nothing."""
    table.register("r", "tensors", 0, 64)
    real, sizes = os.preadv, iter((5, 7))

    def in_parts(file: int, buffers: list[memoryview], offset: int) -> int:
        return real(file, [buffers[0][: next(sizes, 64)]], offset)

    monkeypatch.setattr(module.os, "preadv", in_parts)
    assert bytes(table.slot("r", 0, 64, "x").read()) == bytes(range(64))

    def shrinking(file: int, buffers: list[memoryview], offset: int) -> int:
        size = real(file, [buffers[0][:10]], offset)
        os.truncate(tmp_path / "tensors", 10)
        return size

    monkeypatch.setattr(module.os, "preadv", shrinking)
    with pytest.raises(BadRequest, match="has shrunk to 10 bytes"):
        table.slot("r", 0, 64, "x").read()


def test_writing_goes_on_after_a_part_and_stops_at_a_failure(table: Regions, monkeypatch: pytest.MonkeyPatch) -> None:
    table.register("r", "tensors", 4, 16)
    slot, real = table.slot("r", 1, 10, "y"), os.pwrite
    monkeypatch.setattr(module.os, "pwrite", lambda file, data, offset: real(file, data[:3], offset))
    slot.write(np.arange(100, 110, dtype=np.uint8))
    assert bytes(slot.read()) == bytes(range(100, 110))

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "pwrite", full)
    with pytest.raises(BadRequest, match="cannot be written: No space left on device"):
        slot.write(b"abc")
    monkeypatch.setattr(module.os, "preadv", full)
    with pytest.raises(BadRequest, match="cannot be read: No space left"):
        slot.read()


def test_after_unregistering_nothing_is_touched_not_even_another_file_of_the_same_number(
    table: Regions, tmp_path: Path
) -> None:
    table.register("r", "tensors", 0, 64)
    slot = table.slot("r", 0, 4, "y")
    table.unregister("r")
    table.register("r", "tensors", 0, 64)  # most likely with the very descriptor that was closed
    for use in (slot.read, lambda: slot.check("y", 4), lambda: slot.write(b"abcd")):
        with pytest.raises(BadRequest, match="was unregistered while the request ran"):
            use()
    assert (tmp_path / "tensors").read_bytes() == bytes(range(64))


def test_outputs_lie_apart_whatever_regions_they_are_in(table: Regions, tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(bytes(64))
    table.register("r", "tensors", 0, 64)
    table.register("s", "tensors", 32, 32)
    table.register("t", "other", 0, 64)
    low, high, same = (table.slot(*place, "y") for place in (("r", 0, 32), ("s", 0, 32), ("r", 40, 8)))
    check_apart([low, high, table.slot("t", 40, 8, "y")])
    check_apart([low, same])
    with pytest.raises(BadRequest, match="two outputs overlap in shared memory"):
        check_apart([low, high, same])


def test_an_input_may_be_as_large_as_a_body(table: Regions) -> None:
    table.check_copied(MOST_BYTES, "input 'x'")
    with pytest.raises(TooLarge, match="input 'x' has 1001 bytes, 1000 are allowed"):
        table.check_copied(MOST_BYTES + 1, "input 'x'")


def test_a_region_reads_as_what_it_is(table: Regions) -> None:
    table.register("r", "tensors", 0, 1)
    (region,) = table.status()
    assert isinstance(region, Region)
    assert str(region) == "shared memory region 'r'"
