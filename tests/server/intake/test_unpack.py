"""Uploads: flat, regular files within bounds are unpacked; nothing else ever leaves the archive's folder."""

from __future__ import annotations

import gzip
import io
import random
import tarfile
import tracemalloc
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from server.intake import unpack as module
from server.intake.errors import IntakeError
from server.intake.unpack import is_archive, unpack

FILES = {"manifest.json": b"{}", "model.onnx": b"model" * 100}


def tar_of(path: Path, files: dict[str, bytes], mode: str = "w:gz", extra: Sequence[tarfile.TarInfo] = ()) -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info in extra:
            archive.addfile(info)
    return path


def zip_of(path: Path, files: dict[str, bytes], mode: int = 0o100644) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, content, zipfile.ZIP_DEFLATED)
    return path


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def unpacked(archive: Path, most_bytes: int = 1 << 20) -> dict[str, bytes]:
    folder = archive.with_name("unpacked")
    unpack(archive, folder, most_bytes)
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*")}


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("prefix", ["", "./", "digits/", "./3/"])
def test_tars_with_or_without_a_leading_folder(mode: str, prefix: str, tmp_path: Path) -> None:
    folders = [special(prefix, tarfile.DIRTYPE)] if prefix else []
    archive = tar_of(tmp_path / "a", {prefix + name: content for name, content in FILES.items()}, mode, folders)
    assert is_archive(archive)
    assert unpacked(archive) == FILES


def test_zips(tmp_path: Path) -> None:
    archive = zip_of(tmp_path / "a", {"digits/": b"", **{f"digits/{name}": content for name, content in FILES.items()}})
    assert is_archive(archive)
    assert unpacked(archive) == FILES


@pytest.mark.parametrize("content", [b"", b"\x08\x07 onnx", b"\x1f\x8b\x08\x00", b"PK\x03\x04", bytes(100)])
def test_other_files_are_no_archives(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(content)
    assert not is_archive(tmp_path / "a")


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "a/b/evil", "..\\evil", "a\\b\\evil", "..", "./."])
@pytest.mark.parametrize("pack", [tar_of, zip_of])
def test_paths_that_escape_or_nest_are_refused(name: str, pack: object, tmp_path: Path) -> None:
    archive = pack(tmp_path / "a", {name: b"x"})  # type: ignore[operator]
    with pytest.raises(IntakeError, match="in the archive does not lie directly in the version folder"):
        unpacked(archive)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "unpacked"]


def test_files_in_different_folders_are_refused(tmp_path: Path) -> None:
    archive = tar_of(tmp_path / "a", {"1/manifest.json": b"{}", "2/model.onnx": b"x"})
    with pytest.raises(
        IntakeError, match=r"'2/model.onnx' in the archive does not lie beside the other files; pack one version"
    ):
        unpacked(archive)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE])
def test_links_and_devices_in_a_tar_are_refused(kind: bytes, tmp_path: Path) -> None:
    archive = tar_of(tmp_path / "a", {}, extra=[special("model.onnx", kind, "/etc/passwd")])
    with pytest.raises(IntakeError, match=r"'model.onnx' in the archive is not a regular file"):
        unpacked(archive)


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IntakeError, match=r"'model.onnx' in the archive is not a regular file"):
        unpacked(zip_of(tmp_path / "a", {"model.onnx": b"/etc/passwd"}, mode=0o120777))


@pytest.mark.parametrize("pack", [tar_of, zip_of])
def test_bombs_are_stopped_at_the_limit(pack: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK", 100)
    archive = pack(tmp_path / "a", {"a": bytes(600), "b": bytes(10_000)})  # type: ignore[operator]
    with pytest.raises(
        IntakeError, match="the archive unpacks to more than 1000 bytes, which is the server's max_upload_bytes"
    ):
        unpacked(archive, 1000)
    assert sum(path.stat().st_size for path in (tmp_path / "unpacked").iterdir()) <= 1000


@pytest.mark.parametrize("pack", [tar_of, zip_of])
def test_a_disk_is_never_filled(pack: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: SimpleNamespace(free=2000))
    archive = pack(tmp_path / "a", {"a": bytes(600), "b": bytes(401)})  # type: ignore[operator]
    with pytest.raises(
        IntakeError, match="more than 1000 bytes, which is 50% of what is free on the repository's disk; make room"
    ):
        unpacked(archive)


def test_exactly_as_much_as_is_allowed_is_unpacked(tmp_path: Path) -> None:
    assert unpacked(tar_of(tmp_path / "a", {"a": bytes(600), "b": bytes(400)}), 1000) == {"a": bytes(600), "b": bytes(400)}


def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_FILES", 3)
    with pytest.raises(IntakeError, match="the archive holds more than 3 files"):
        unpacked(tar_of(tmp_path / "a", {str(number): b"" for number in range(4)}))


def test_a_name_that_comes_twice_is_refused(tmp_path: Path) -> None:
    archive = tar_of(tmp_path / "a", {"x": b"1"}, "w")
    with tarfile.open(archive, "a") as again:
        again.addfile(tarfile.TarInfo("x"))
    with pytest.raises(IntakeError, match=r"the archive is damaged or uses a feature that is not supported: .*exists"):
        unpacked(archive)


@pytest.mark.parametrize("kind", ["w:gz", "w:bz2", "w:xz", "zip"])
def test_damage_anywhere_is_a_refusal_never_an_error_of_ours(kind: str, tmp_path: Path) -> None:
    rnd = random.Random(kind)
    files = {"manifest.json": rnd.randbytes(700), "model.onnx": rnd.randbytes(3000)}
    whole = (zip_of(tmp_path / "w", files) if kind == "zip" else tar_of(tmp_path / "w", files, kind)).read_bytes()
    for number in range(150):
        damaged = bytearray(whole)
        if number % 2:
            del damaged[rnd.randrange(len(whole)) :]
        else:
            damaged[rnd.randrange(len(whole))] ^= 1 << rnd.randrange(8)
        archive = tmp_path / f"{number}" / "a"
        archive.parent.mkdir()
        archive.write_bytes(damaged)
        if is_archive(archive):
            with suppress(IntakeError):
                unpacked(archive)


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
def test_a_header_is_not_read_whole_however_small_it_was_packed(kind: bytes, tmp_path: Path) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, 64 << 20
    archive = tmp_path / "bomb.tar.gz"
    with gzip.open(archive, "wb", 1) as file:
        file.write(info.tobuf(tarfile.GNU_FORMAT))
        for _ in range(64):
            file.write(bytes(1 << 20))
        file.write(bytes(1024))
    assert archive.stat().st_size < 1 << 20
    tracemalloc.start()
    try:
        assert is_archive(archive)
        with pytest.raises(IntakeError, match="a header in the archive has 67108864 bytes"):
            unpack(archive, tmp_path / "unpacked", 1 << 30)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_folders_are_counted(tmp_path: Path) -> None:
    archive = tar_of(tmp_path / "folders.tar.gz", {}, extra=[special(f"d{n}", tarfile.DIRTYPE) for n in range(200)])
    with pytest.raises(IntakeError, match="files and as many folders"):
        unpack(archive, tmp_path / "unpacked", 1 << 20)


def test_long_names_are_still_names(tmp_path: Path) -> None:
    name = f"{'n' * 120}.onnx"
    assert unpacked(tar_of(tmp_path / "long.tar.gz", {name: b"x"})) == {name: b"x"}


@pytest.mark.parametrize("how", ["gnu", "pax"])
def test_sparse_files_are_refused_before_their_map_is_read(how: str, tmp_path: Path) -> None:
    archive = tmp_path / "sparse.tar.gz"
    if how == "gnu":
        info = special("x", tarfile.GNUTYPE_SPARSE)
        block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
        block[482] = 1  # its map goes on in the next block, and there again
        block[148:156] = b" " * 8
        block[148:156] = b"%06o\0 " % sum(block)
        more = bytearray(b"00000000001\0" * 42 + bytes(8))
        more[504] = 1
        with gzip.open(archive, "wb", 1) as file:
            file.write(block)
            for _ in range(20_000):
                file.write(more)
    else:
        info = tarfile.TarInfo("x")
        content = b"10000000\n" + b"1\n" * 4_000_000
        info.size = len(content)
        info.pax_headers = {
            "GNU.sparse.major": "1",
            "GNU.sparse.minor": "0",
            "GNU.sparse.name": "x",
            "GNU.sparse.realsize": "1",
        }
        with tarfile.open(archive, "w:gz", format=tarfile.PAX_FORMAT) as opened:
            opened.addfile(info, io.BytesIO(content))
    tracemalloc.start()
    try:
        with pytest.raises(IntakeError, match="sparse"):
            unpack(archive, tmp_path / "unpacked", 1 << 30)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
