"""The process that examines uploads: its verdicts, and the same inside this process where that is enough."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx")

from server.backends.onnx_runtime import OnnxRuntimeBackend
from server.contract.layout import MANIFEST, PROFILE, TOKENIZER, describe_file, read_folder, read_json, write_json
from server.contract.manifest import Check
from server.intake import child
from server.intake.build import Intake, build_version
from server.intake.checks import by_cosine
from server.intake.measure import Effort
from tests.models import (
    affine,
    bag,
    coarse,
    identity,
    masked_mean,
    mixes_rows,
    plain_mean,
    sums_the_batch,
    text_folder,
    version_folder,
)

OPTIONS = {"name": "demo", "lengths": None, "max_rows": 2}


@pytest.fixture(autouse=True)
def _little_effort(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only verdicts matter here, not the figures."""
    quick = Effort(cell_s=0.0, n_least=1, n_most=1)
    monkeypatch.setattr("server.intake.measure.COARSE", quick)
    monkeypatch.setattr(child, "Effort", lambda: quick)
    monkeypatch.setattr("server.intake.build.Effort", lambda: quick)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version folder as it comes out of an archive."""
    return version_folder(tmp_path_factory.mktemp("packed"), "elsewhere", masked_mean(), lengths=(1, 16), max_rows=4)


def verdict(folder: Path, capsys: pytest.CaptureFixture[str], **options: Any) -> tuple[int, str]:
    status = child.main(folder, {**OPTIONS, **options})
    return status, capsys.readouterr().out.strip()


def upload(folder: Path, model: bytes) -> Path:
    (folder / "model.onnx").write_bytes(model)
    return folder


def test_a_good_model_becomes_a_version(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verdict(upload(tmp_path, affine()), capsys) == (0, "")
    found = read_folder(tmp_path, "here", 1)
    assert (found.manifest.name, found.manifest.max_rows) == ("demo", 2)


def test_lengths_are_those_that_the_client_gave(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verdict(upload(tmp_path, masked_mean()), capsys, lengths=[2, 9]) == (0, "")
    ragged = read_folder(tmp_path, "here", 1).manifest.ragged
    assert ragged is not None
    assert (ragged.shortest, ragged.longest, ragged.mixes) == (2, 9, True)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (b"not a model", "model.onnx cannot be loaded by onnxruntime"),
        (sums_the_batch(), "one row in must be one row out"),
        (mixes_rows(), "output 'y' of a row changes when it shares a batch of 2"),
    ],
)
def test_a_bad_model_is_refused_with_the_reason(
    model: bytes, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, reason = verdict(upload(tmp_path, model), capsys)
    assert status == 1
    assert message in reason
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize(("check", "status"), [("answers", 0), ("parity", 1)])
def test_what_calculates_coarsely_by_design_is_checked_as_such(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], check: str, status: int
) -> None:
    upload(tmp_path, coarse())
    intake = Intake(
        "demo", max_rows=4, checks=(Check(check, True, "close"),), effort=Effort(0.0, 1, 1), differs=by_cosine(0.99)
    )
    build_version(tmp_path, OnnxRuntimeBackend(), intake, lambda *_: None)
    assert verdict(tmp_path, capsys)[0] == status


def for_another_backend(folder: Path, fallback: str | None) -> Path:
    manifest = read_json(folder / MANIFEST, "manifest") | {"backend": "abacus"}
    write_json(folder / MANIFEST, manifest | ({"schema": 3, "fallback": fallback} if fallback else {}))
    return folder


def test_a_packed_version_for_another_backend_is_checked_by_its_fallback(
    packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = for_another_backend(shutil.copytree(packed, tmp_path / "version"), "onnxruntime")
    before = (folder / PROFILE).read_bytes()
    assert verdict(folder, capsys) == (0, "")
    found = read_folder(folder, "here", 1)
    assert (found.manifest.name, found.manifest.backend, found.manifest.fallback) == ("demo", "abacus", "onnxruntime")
    assert found.fallback_profiles is not None, "measured here, by the one that will serve here"
    assert (folder / PROFILE).read_bytes() == before, "nothing is known of the other one here"


def test_a_packed_version_for_a_backend_that_is_not_here_is_refused(
    packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = for_another_backend(shutil.copytree(packed, tmp_path / "version"), None)
    status, reason = verdict(folder, capsys)
    assert status == 1
    assert "needs backend 'abacus': this ferry has onnxruntime" in reason


def test_a_packed_version_is_checked_and_renamed(packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = shutil.copytree(packed, tmp_path / "version")
    before = (folder / PROFILE).read_bytes()
    assert verdict(folder, capsys) == (0, "")
    assert read_folder(folder, "here", 1).manifest.name == "demo"
    assert (folder / PROFILE).read_bytes() == before, "measured on this very machine"


def test_a_packed_version_keeps_its_own_name(packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = shutil.copytree(packed, tmp_path / "version")
    before = (folder / MANIFEST).read_bytes()
    assert verdict(folder, capsys, name="elsewhere") == (0, "")
    assert (folder / MANIFEST).read_bytes() == before


def test_a_profile_from_another_machine_is_measured_again(
    packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(packed, tmp_path / "version")
    profile = read_json(folder / PROFILE, "profile")
    profile["device"]["processor"] = "another chip"
    write_json(folder / PROFILE, profile)
    assert verdict(folder, capsys) == (0, "")
    assert read_folder(folder, "here", 1).profiles.device.processor != "another chip"


def test_one_without_a_profile_gets_one(packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = shutil.copytree(packed, tmp_path / "version")
    (folder / PROFILE).unlink()
    assert verdict(folder, capsys) == (0, "")
    assert read_folder(folder, "here", 1).profiles is not None


def edited(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        manifest = read_json(folder / MANIFEST, "manifest")
        change(manifest)
        write_json(folder / MANIFEST, manifest)

    return edit


def swap_model(folder: Path) -> None:
    """Another file, with a manifest that vouches for it."""
    upload(folder, identity("FP32"))
    entry = describe_file(folder / "model.onnx")
    edited(lambda m: m.update(files=[{"path": entry.path, "sha256": entry.sha256, "bytes": entry.bytes}]))(folder)


def list_only_the_profile(folder: Path) -> None:
    entry = describe_file(folder / PROFILE)
    edited(lambda m: m.update(files=[{"path": entry.path, "sha256": entry.sha256, "bytes": entry.bytes}]))(folder)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "model.onnx").write_bytes(b"x"), "the uploaded folder/model.onnx: damaged: the manifest promises"),
        (edited(lambda m: m.update(schema=7)), "the uploaded folder/manifest.json: schema 7 is from a newer ferry"),
        (edited(lambda m: m.update(backend="abacus")), "needs backend 'abacus': this ferry has onnxruntime"),
        (edited(lambda m: m["outputs"][0].update(name="z")), "the manifest's inputs and outputs are not the model file's"),
        (swap_model, "the manifest's inputs and outputs are not the model file's; build the version again"),
        (list_only_the_profile, "the manifest does not list model.onnx; build the version again"),
    ],
)
def test_a_packed_version_that_lies_is_refused(
    damage: Callable[[Path], object], message: str, packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(packed, tmp_path / "version")
    damage(folder)
    status, reason = verdict(folder, capsys)
    assert status == 1
    assert message in reason


def test_a_packed_version_cannot_claim_that_its_lengths_mix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = version_folder(tmp_path / "version", "demo", plain_mean(), lengths=(1, 16), max_rows=2)
    assert verdict(folder, capsys) == (0, "")
    edited(lambda m: m["ragged"].update(mixes=True))(folder)
    status, reason = verdict(folder, capsys)
    assert status == 1
    assert reason.startswith("the manifest says that lengths may share a batch, but padding changes answers (")


@pytest.fixture(scope="module")
def packed_text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of a version that takes text."""
    pytest.importorskip("tokenizers")
    return text_folder(tmp_path_factory.mktemp("text") / "v", "elsewhere")


def test_a_packed_version_brings_its_tokenizer_along(
    packed_text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(packed_text, tmp_path / "version")
    assert verdict(folder, capsys) == (0, "")
    found = read_folder(folder, "here", 1)
    assert found.manifest.text is not None
    assert found.manifest.text.tokenizer in {entry.path for entry in found.manifest.files}
    assert [check.name for check in found.manifest.checks] == ["rows", "padding", "vocabulary"]


def test_a_tokenizers_cost_from_another_machine_is_measured_again(
    packed_text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(packed_text, tmp_path / "version")
    profile = read_json(folder / PROFILE, "profile")
    profile["device"]["processor"] = "another chip"
    profile["text"]["text_s"] = 77.0
    write_json(folder / PROFILE, profile)
    assert verdict(folder, capsys) == (0, "")
    cost = read_folder(folder, "here", 1).profiles.text
    assert cost is not None
    assert 0 < cost.text_s < 1


def vouch(folder: Path, name: str, content: bytes) -> None:
    """Put another file in place, with a manifest that vouches for it."""
    (folder / name).write_bytes(content)
    entry = describe_file(folder / name)
    listed = {"path": entry.path, "sha256": entry.sha256, "bytes": entry.bytes}
    edited(lambda m: m.update(files=[e for e in m["files"] if e["path"] != name] + [listed]))(folder)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / TOKENIZER).write_bytes(b"{}"), "the uploaded folder/tokenizer.json: damaged: the manifest promises"),
        (lambda f: (f / TOKENIZER).unlink(), "the uploaded folder/tokenizer.json: missing"),
        (lambda f: vouch(f, TOKENIZER, b"{}"), "tokenizer.json is not a tokenizer of the tokenizers library"),
        (lambda f: vouch(f, "model.onnx", bag(n_ids=20)), "the tokenizer makes ids up to 62, which the model refuses"),
        (edited(lambda m: m.update(schema=1)), "unknown field 'text'"),
        (edited(lambda m: m.pop("text")), "manifest and profile.json do not agree on whether it takes text"),
    ],
)
def test_a_packed_version_with_a_wrong_tokenizer_is_refused(
    damage: Callable[[Path], object], message: str, packed_text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(packed_text, tmp_path / "version")
    damage(folder)
    status, reason = verdict(folder, capsys)
    assert status == 1
    assert message in reason


def test_the_process_itself(tmp_path: Path) -> None:
    upload(tmp_path, mixes_rows())
    command = [sys.executable, "-m", "server.intake.child", str(tmp_path), json.dumps(OPTIONS)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert "rows must not influence each other" in child.stdout.read()
        assert child.wait() == 1


def test_the_process_ends_with_its_parent(tmp_path: Path) -> None:
    upload(tmp_path, mixes_rows())
    command = [sys.executable, "-m", "server.intake.child", str(tmp_path), json.dumps(OPTIONS)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)  # as if the server were dead
    assert (done.returncode, done.stdout) == (3, b"")
