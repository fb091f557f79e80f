"""Files of other tools become versions of the widest terms that ferry takes."""

from __future__ import annotations

import io
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest

from loadtests.child import Child
from loadtests.errors import MissingData
from loadtests.optimizers import upload
from loadtests.optimizers.upload import Refused, packed, take_in
from server.contract.layout import read_folder
from tests.models import affine, coarse, masked_mean

SERVER = f"{sys.executable} -m server.cli serve --grpc-port off"
RAGGED = {"axis": "sequence", "shortest": 2, "longest": 9, "pads": {"ids": 0, "mask": 0}, "mixes": True}


def plain(folder: Path, ragged: dict[str, object] | None = None) -> Path:
    (folder / "manifest.json").write_bytes(orjson.dumps({"name": "demo", "ragged": ragged, "max_rows": 4}))
    return folder


def written(folder: Path, content: bytes) -> Path:
    file = folder / "made.onnx"
    file.write_bytes(content)
    return file


def test_a_packed_version_is_one_that_ferry_reads(tmp_path: Path) -> None:
    content = packed(written(tmp_path, masked_mean()), {"name": "demo", "ragged": RAGGED}, 4, False, "close", True)
    zipfile.ZipFile(io.BytesIO(content)).extractall(tmp_path / "version")
    found = read_folder(tmp_path / "version", "here", 1).manifest
    assert (found.name, found.max_rows, found.is_coarse) == ("demo", 4, True)
    assert found.ragged is not None
    assert (found.ragged.shortest, found.ragged.longest, found.ragged.mixes) == (2, 9, False)
    assert found.backend == "onnxruntime"


def test_a_version_may_be_packed_for_another_library(tmp_path: Path) -> None:
    like = {"name": "demo", "ragged": None}
    content = packed(written(tmp_path, affine()), like, 4, None, "close", True, "openvino-bf16")
    zipfile.ZipFile(io.BytesIO(content)).extractall(tmp_path / "version")
    assert read_folder(tmp_path / "version", "here", 1).manifest.backend == "openvino-bf16"


def test_ferry_takes_the_file_on_openvino(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    file = written(tmp_path, affine())
    taken = take_in(file, plain(tmp_path), "close", True, 5.0, tmp_path / "served", SERVER, "openvino-f32")
    assert (taken.max_rows, taken.refused) == (4, [])
    assert read_folder(taken.file.parent, "here", 1).manifest.backend == "openvino-f32"


def test_a_file_that_is_no_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match=r"onnxruntime cannot load made\.onnx"):
        packed(written(tmp_path, b"nothing"), {"name": "demo", "ragged": None}, 4, None, "close", True)


def test_ferry_takes_what_is_coarse_by_design_and_the_same_file_is_uploaded_once(tmp_path: Path) -> None:
    file = written(tmp_path, coarse())
    taken = take_in(file, plain(tmp_path), "close", True, 5.0, tmp_path / "served", SERVER)
    assert (taken.max_rows, taken.mixes, taken.refused) == (4, None, [])
    assert taken.file == tmp_path / "served" / "demo" / "1" / "model.onnx"
    assert (taken.file.parent / "profile.json").exists()
    assert take_in(file, plain(tmp_path), "close", True, 5.0, tmp_path / "served", "false") == taken


@pytest.mark.parametrize(
    ("ragged", "n_refusals", "max_rows", "mixes"),
    [(RAGGED, 1, 4, False), (RAGGED, 2, 1, False), ({**RAGGED, "mixes": False}, 1, 1, False), (None, 1, 1, None)],
)
def test_refused_terms_are_narrowed(
    ragged: dict[str, object] | None,
    n_refusals: int,
    max_rows: int,
    mixes: bool | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refuse_first(n_refusals, monkeypatch)
    monkeypatch.setattr(upload, "model_file", lambda *_: tmp_path / "version" / "model.onnx")
    monkeypatch.setattr(upload, "_known", lambda *_: None)
    content = affine() if ragged is None else masked_mean()
    taken = take_in(written(tmp_path, content), plain(tmp_path, ragged), "close", True, 5.0, tmp_path / "served", SERVER)
    assert (taken.max_rows, taken.mixes, len(taken.refused)) == (max_rows, mixes, n_refusals)


def test_what_is_refused_on_all_terms_is_refused_with_every_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_first(9, monkeypatch)
    with pytest.raises(Refused, match="refusal 1; refusal 2"):
        take_in(written(tmp_path, affine()), plain(tmp_path), "close", True, 5.0, tmp_path / "served", SERVER)


def refuse_first(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    uploads: list[str] = []

    def attempt(_server: Child, name: str, _body: bytes, _slo_s: float) -> None:
        uploads.append(name)
        if len(uploads) <= n:
            raise Refused(f"refusal {len(uploads)}")

    @contextmanager
    def nobody(*_: object) -> Iterator[Child]:
        yield Child(0, 0, 0.0)

    monkeypatch.setattr(upload, "_upload", attempt)
    monkeypatch.setattr(upload, "serving", nobody)
