"""Registering by upload on a real server: good ones serve at once, bad ones change nothing."""

from __future__ import annotations

import io
import json
import os
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx")

from tests import models
from tests.child_server import ChildServer, wait_until

X = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("admin")
    models.publish_model(folder, "affine", models.affine())
    return folder


@pytest.fixture(scope="module")
def admin(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChildServer]:
    with ChildServer(repository, tmp_path_factory.mktemp("log") / "log", "--max-upload-bytes", "100000") as server:
        yield server


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version folder of model `packed`, to be tarred or spoilt."""
    return models.version_folder(tmp_path_factory.mktemp("packed") / "v", "packed", models.affine(5.0), max_rows=2)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def tar(members: dict[str, bytes], prefix: str = "", mode: str = "w:gz") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:  # type: ignore[call-overload]
        for name, data in members.items():
            info = tarfile.TarInfo(prefix + name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def tar_of(*infos: tarfile.TarInfo) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for info in infos:
            archive.addfile(info)
    return out.getvalue()


def zipped(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def register(server: ChildServer, name: str, body: Any, query: str = "?slo=5s&max_rows=2") -> Any:
    return server.call("POST", f"/admin/models/{name}/versions{query}", body)


def tree(repository: Path) -> list[str]:
    """Everything in the repository; os.walk passes over folders that the server removes meanwhile."""
    return sorted(os.path.join(folder, name) for folder, folders, files in os.walk(repository) for name in (*folders, *files))


def answer(server: ChildServer, name: str) -> list[float]:
    reply = server.call("POST", f"/v2/models/{name}/infer", X)
    assert reply.status == 200, reply
    return list(reply.json["outputs"][0]["data"])


def test_an_onnx_file_is_checked_profiled_listed_and_served(admin: ChildServer) -> None:
    reply = register(admin, "fresh", models.affine(3.0), "?slo=250ms&max_rows=2")
    assert reply.status == 201, reply
    assert reply.json["version"] == reply.json["serving"] == 1
    assert reply.json["slo"] == "250ms"
    assert reply.json["max_rows"] == 2
    assert reply.json["profile"]["peak_rows_per_s"] > 0
    assert [check["name"] for check in reply.json["checks"]] == ["rows"]
    assert answer(admin, "fresh") == [4.0, 7.0, 10.0, 13.0]
    (listed,) = [model for model in admin.call("GET", "/admin/models").json["models"] if model["name"] == "fresh"]
    assert listed["versions"] == [{"version": 1, "state": "READY", "reason": ""}]
    assert listed["slo"] == "250ms"
    again = register(admin, "fresh", models.affine(4.0), "?max_rows=2")
    assert (again.status, again.json["version"], again.json["slo"]) == (201, 2, "250ms")
    assert answer(admin, "fresh") == [5.0, 9.0, 13.0, 17.0]


def test_lengths_bound_the_ragged_axis(admin: ChildServer) -> None:
    reply = register(admin, "ragged", models.masked_mean(), "?slo=5s&lengths=2:9&max_rows=2")
    assert reply.status == 201, reply
    assert [check["name"] for check in reply.json["checks"]] == ["rows", "padding"]
    item = {"shape": [1, 10], "datatype": "INT64", "data": [1] * 10}
    refused = admin.call("POST", "/v2/models/ragged/infer", {"inputs": [{"name": "ids", **item}, {"name": "mask", **item}]})
    assert "2 to 9" in refused.error


@pytest.mark.parametrize(
    "pack", [tar, zipped, lambda m: tar(m, "v/"), lambda m: tar(m, "./", "w")], ids=["tgz", "zip", "dir", "tar"]
)
def test_a_packed_version_folder_is_verified_and_served_under_any_name(
    admin: ChildServer, packed: Path, pack: Callable[[dict[str, bytes]], bytes]
) -> None:
    for name in ("packed", "renamed"):
        reply = register(admin, name, pack(files(packed)), "?slo=5s")
        assert reply.status == 201, reply
        assert answer(admin, name) == [6.0, 11.0, 16.0, 21.0]


def test_a_packed_version_that_takes_text_brings_its_tokenizer_along(
    admin: ChildServer, tmp_path: Path
) -> None:  # fmt: skip
    pytest.importorskip("tokenizers")
    members = files(models.text_folder(tmp_path / "v", "words"))
    reply = register(admin, "words", tar(members), "?slo=5s")
    assert reply.status == 201, reply
    assert reply.json["profile"]["tokenizer_us_per_token"] > 0
    item = {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["w1 w2"]}
    assert admin.call("POST", "/v2/models/words/infer", {"inputs": [item]}).status == 200
    damaged = register(admin, "words", tar(members | {"tokenizer.json": b"{}"}), "?slo=5s")
    assert damaged.status == 400
    assert "tokenizer.json: damaged" in damaged.error


def spoilt(members: dict[str, bytes], **changes: Any) -> bytes:
    manifest = json.loads(members["manifest.json"]) | changes
    return tar(members | {"manifest.json": json.dumps(manifest).encode()})


BAD_PACKS: dict[str, tuple[Callable[[dict[str, bytes]], bytes], str]] = {
    "escapes": (lambda m: tar(m | {"../evil": b""}), "'../evil'"),
    "absolute": (lambda m: tar(m | {"/tmp/evil": b""}), "/tmp/evil"),
    "zip escapes": (lambda m: zipped(m | {"../../evil": b""}), "evil"),
    "backslash": (lambda m: zipped(m | {"..\\evil": b""}), "evil"),
    "nested": (lambda m: tar(m | {"a/b/c": b""}), "a/b/c"),
    "symlink": (lambda _: tar_of(special("model.onnx", tarfile.SYMTYPE, "/etc/passwd")), "not a regular file"),
    "hard link": (lambda _: tar_of(special("model.onnx", tarfile.LNKTYPE, "/etc/passwd")), "archive"),
    "device": (lambda _: tar_of(special("model.onnx", tarfile.CHRTYPE)), "not a regular file"),
    "too many files": (lambda m: tar(m | {f"f{n}": b"" for n in range(100)}), "more than 64 files"),
    "damaged file": (lambda m: tar(m | {"model.onnx": m["model.onnx"][:-1] + b"?"}), "damaged"),
    "file missing": (lambda m: tar({k: v for k, v in m.items() if k != "model.onnx"}), "model.onnx"),
    "from the future": (lambda m: spoilt(m, schema=99), "schema 99"),
    "unknown field": (lambda m: spoilt(m, colour="red"), "colour"),
    "wrong backend": (lambda m: spoilt(m, backend="tensorrt"), "tensorrt"),
    "other tensors": (lambda m: spoilt(m, outputs=[{"name": "z", "datatype": "FP32", "shape": ["batch", 4]}]), "outputs"),
    "manifest is not JSON": (lambda m: tar(m | {"manifest.json": b"{"}), "not valid JSON"),
    "manifest is a bomb": (lambda m: tar(m | {"manifest.json": b"[" * 90_000}), "manifest.json"),
    "cut off": (lambda m: tar(m)[:200], "archive"),
    "archive of an archive": (lambda m: tar({"inner.tar.gz": tar(m)}), "model.onnx"),
}


def bad_upload(admin: ChildServer, repository: Path, body: bytes, query: str, says: str, name: str = "bad") -> None:
    before = tree(repository)
    reply = register(admin, name, body, query)
    assert reply.status in (400, 413), reply
    assert says in reply.error, reply
    wait_until(lambda: tree(repository) == before, "the repository as it was")
    assert not list((repository / ".staging").iterdir())
    assert answer(admin, "affine") == [3.0, 5.0, 7.0, 9.0]


@pytest.mark.parametrize("how", BAD_PACKS)
def test_a_bad_archive_changes_nothing(admin: ChildServer, repository: Path, packed: Path, how: str) -> None:
    make, says = BAD_PACKS[how]
    bad_upload(admin, repository, make(files(packed)), "?slo=5s", says)


BAD_FILES: dict[str, tuple[bytes, str]] = {
    "not ONNX": (b"this is not a model" * 10, "cannot be loaded"),
    "cut-off ONNX": (models.affine()[:-20], "cannot be loaded"),
    "empty": (b"", "empty"),
    "over the limit": (bytes(100_001), "100000 bytes"),
    "wrong rows": (models.sums_the_batch(), "one row"),
    "rows that mix": (models.mixes_rows(), "rows must not influence each other"),
}


@pytest.mark.parametrize("what", BAD_FILES)
def test_a_bad_file_changes_nothing(admin: ChildServer, repository: Path, what: str) -> None:
    body, says = BAD_FILES[what]
    bad_upload(admin, repository, body, "?slo=5s&max_rows=2", says, name="affine")


@pytest.mark.parametrize(
    ("name", "query", "says"),
    [
        ("new", "", "latency objective"),
        ("new", "?slo=5", "slo"),
        ("new", "?slo=0ms", "slo"),
        ("new", "?slo=-5ms", "slo"),
        ("new", "?slo=0.001us", "slo"),
        ("new", f"?slo={'9' * 400}s", "slo"),
        ("new", "?slo=5s&lengths=9:3", "lengths"),
        ("new", "?slo=5s&lengths=0:3", "lengths"),
        ("new", "?slo=5s&lengths=3", "lengths"),
        ("new", f"?slo=5s&lengths=1:{'9' * 5000}", "lengths"),
        ("new", "?slo=5s&max_rows=0", "max_rows"),
        ("new", "?slo=5s&max_rows=-3", "max_rows"),
        ("new", "?slo=5s&max_rows=1000000000", "max_rows"),
        ("new", "?slo=5s&max_rows=many", "max_rows"),
        (".hidden", "?slo=5s", "'.hidden'"),
        ("-rf", "?slo=5s", "'-rf'"),
        ("a%20b", "?slo=5s", "'a b'"),
        ("x" * 129, "?slo=5s", "128"),
        ("f%C3%A4hre", "?slo=5s", "fähre"),
    ],
)
def test_bad_words_about_an_upload_are_refused_before_it_is_read(
    admin: ChildServer, repository: Path, name: str, query: str, says: str
) -> None:
    before = tree(repository)
    reply = register(admin, name, models.affine(), query)
    assert (reply.status, says in reply.error) == (400, True), reply
    assert tree(repository) == before


def test_a_client_that_hangs_up_during_its_upload_leaves_nothing(admin: ChildServer, repository: Path) -> None:
    before = tree(repository)
    connection = admin.connect()
    connection.connect()
    head = b"POST /admin/models/half/versions?slo=5s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 90000\r\n\r\n"
    connection.sock.sendall(head + bytes(50_000))
    wait_until(lambda: bool(list((repository / ".staging").iterdir())), "the upload's staging folder")
    connection.close()
    wait_until(lambda: tree(repository) == before, "the repository as it was")
    assert "a bug in ferry" not in admin.log
    assert "Traceback" not in admin.log


def test_registrations_at_the_same_time_get_versions_of_their_own(admin: ChildServer, repository: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        replies = list(pool.map(lambda n: register(admin, "crowd", models.affine(float(n))), range(3)))
    assert [reply.status for reply in replies] == [201] * 3
    assert sorted(reply.json["version"] for reply in replies) == [1, 2, 3]
    assert (repository / "crowd" / "3").is_dir()
    index = admin.call("POST", "/v2/repository/index", {"ready": True}).json
    assert [row["version"] for row in index if row["name"] == "crowd"] == ["3"]


def test_unload_and_load_over_the_wire(admin: ChildServer) -> None:
    unloaded = admin.call("POST", "/v2/repository/models/affine/unload", {"parameters": {"unload_dependents": False}})
    assert (unloaded.status, unloaded.body) == (200, b"")
    assert "not loaded" in admin.call("POST", "/v2/models/affine/infer", X).error
    assert admin.call("GET", "/v2/models/affine/ready").status == 503
    assert admin.call("GET", "/v2/health/ready").status == 200  # what nobody wants loaded does not count
    loaded = admin.call("POST", "/v2/repository/models/affine/load", {})
    assert (loaded.status, loaded.body) == (200, b"")
    assert answer(admin, "affine") == [3.0, 5.0, 7.0, 9.0]
