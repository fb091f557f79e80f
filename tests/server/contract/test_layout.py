"""Where things lie, and that nothing damaged is read."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from server.contract.errors import ContractError
from server.contract.layout import (
    MANIFEST,
    PROFILE,
    check_model_name,
    describe_file,
    model_names,
    read_json,
    read_version,
    versions,
    write_json,
)  # fmt: skip
from tests.server.contract.examples import write_version


@pytest.mark.parametrize("name", ["a", "_a", "0", "Resnet-18.v2_x", "a" * 128])
def test_model_names_that_are_folders_and_urls_alike(name: str) -> None:
    assert check_model_name(name) == name


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "-a", "a/b", "a b", "ä", "a\n", "a" * 129, "a%2e"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ContractError) as caught:
        check_model_name(name)
    assert str(caught.value) == (
        f"model name {name!r} is not allowed; use 1 to 128 letters, digits, '_', '-' and '.', not starting with '-' or '.'"
    )


def test_lists_models_and_versions(tmp_path: Path) -> None:
    for folder in ("b/1", "b/10", "b/2", "b/0", "b/01", "b/x", "b/1\u0663", "a", ".staging/1", "not a model/1"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "file").touch()
    (tmp_path / "b" / "3").touch()
    assert model_names(tmp_path) == ["a", "b"]
    assert versions(tmp_path / "b") == [1, 2, 10]
    assert versions(tmp_path / "absent") == []


def test_describes_a_file(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    entry = describe_file(tmp_path / "f")
    assert (entry.path, entry.sha256, entry.bytes) == ("f", hashlib.sha256(b"abc").hexdigest(), 3)


def test_reads_a_version(tmp_path: Path) -> None:
    folder = write_version(tmp_path / "demo" / "3")
    found = read_version(tmp_path / "demo", 3)
    assert (found.folder, found.version, found.manifest.name) == (folder, 3, "demo")
    assert found.profiles is not None
    assert found.profiles.profiles[0].measured_rows == (1, 8)


def replace_by_link(folder: Path) -> None:
    shutil.move(folder / "model.onnx", folder / "real")
    (folder / "model.onnx").symlink_to(folder / "real")


def replace_by_folder(folder: Path, name: str) -> None:
    (folder / name).unlink()
    (folder / name).mkdir()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "model.onnx").write_bytes(b"MODEL"), "demo/1/model.onnx: damaged: the manifest promises 5 bytes with"),
        (lambda f: (f / "model.onnx").write_bytes(b"model!"), "found 6 with"),
        (lambda f: (f / "model.onnx").unlink(), "demo/1/model.onnx: missing or not a regular file; publish the version again"),
        (replace_by_link, "demo/1/model.onnx: missing or not a regular file"),
        (lambda f: replace_by_folder(f, "model.onnx"), "demo/1/model.onnx: missing or not a regular file"),
        (lambda f: (f / MANIFEST).unlink(), "demo/1/manifest.json: missing; the version folder is incomplete, publish it again"),
        (lambda f: (f / MANIFEST).write_text("{"), "demo/1/manifest.json: not valid JSON"),
        (lambda f: (f / MANIFEST).write_bytes(b"\xff"), "demo/1/manifest.json: not valid JSON"),
        (lambda f: (f / MANIFEST).write_text("[" * 100_000), "demo/1/manifest.json: not valid JSON"),
        (lambda f: (f / MANIFEST).write_text('{"schema": ' + "9" * 5000 + "}"), "demo/1/manifest.json: not valid JSON"),
        (lambda f: replace_by_folder(f, MANIFEST), "demo/1/manifest.json: cannot be read (Is a directory)"),
        (lambda f: (f / PROFILE).write_text("[]"), "demo/1/profile.json: expected an object, found a list"),
        (shutil.rmtree, "demo/1/manifest.json: missing"),
    ],
)  # fmt: skip
def test_refuses_a_damaged_version(damage: Callable[[Path], object], message: str, tmp_path: Path) -> None:
    folder = write_version(tmp_path / "demo" / "1")
    damage(folder)
    with pytest.raises(ContractError) as caught:
        read_version(tmp_path / "demo", 1)
    assert message in str(caught.value)


def test_a_version_cannot_be_copied_between_models(tmp_path: Path) -> None:
    write_version(tmp_path / "other" / "1", name="demo")
    with pytest.raises(ContractError, match=r"other/1/manifest.json: is for model 'demo'; .* publish it again"):
        read_version(tmp_path / "other", 1)


def test_json_is_written_for_people_too(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"a": [1, "ä"]})
    text = (tmp_path / "x.json").read_text()
    assert text.endswith("\n")
    assert text.count("\n") > 2
    assert json.loads(text) == read_json(tmp_path / "x.json", "x.json") == {"a": [1, "ä"]}
