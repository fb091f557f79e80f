"""`ferry doctor`: what it says of the machine and its libraries, and that every version that cannot be served changes the exit status."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx")

from server import doctor
from server.backends.base import Backends
from server.backends.catalog import find_backends
from server.backends.nvidia import Card, Cards
from server.backends.onnx_runtime import OnnxRuntimeBackend
from server.contract.accelerator import Accelerator
from server.contract.layout import FALLBACK_PROFILE, MANIFEST, PROFILE
from server.doctor import DoctorVerb, diagnose
from tests.models import publish_text
from tests.talker import publish_talker

A_CARD = Accelerator("A card", "9.0", "570.1", "12.8")


class OnACard(OnnxRuntimeBackend):
    """The library that is always there, as one that calculates on a card."""

    name = "tensorrt"
    runtime = "tensorrt 1"
    accelerator: Any = A_CARD


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    verb = DoctorVerb()
    verb.configure(parser)
    return verb.run(parser.parse_args(arguments))


def change(file: Path, **fields: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))


def build_for(version: Path, runtime: str = "tensorrt 1", fallback: str | None = "onnxruntime") -> None:
    """The version as one whose file was built for a card."""
    built_for = {"accelerator": A_CARD.to_json(), "runtime": runtime}
    change(version / MANIFEST, schema=5, backend="tensorrt", fallback=fallback, built_for=built_for)


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but ONNX Runtime is here."""
    here = Backends({"onnxruntime": OnnxRuntimeBackend()}, {"tensorrt": "tensorrt is not installed: pip install it"})
    monkeypatch.setattr(doctor, "find_backends", lambda: here)


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is a card, too."""
    here = Backends({"onnxruntime": OnnxRuntimeBackend(), "tensorrt": OnACard()})
    monkeypatch.setattr(doctor, "find_backends", lambda: here)
    monkeypatch.setattr(doctor, "find_cards", lambda: Cards((Card(A_CARD, 80 * 10**9, "0000:17:00.0"),)))


@pytest.mark.usefixtures("plain")
def test_names_the_machine_and_its_libraries(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "find_cards", lambda: Cards((), "the NVIDIA driver does not answer: no such file"))
    assert run() == 0
    out = capsys.readouterr().out
    assert "cores for this process, " in out
    assert "no NVIDIA card: the NVIDIA driver does not answer: no such file" in out
    assert f"  onnxruntime  usable: {OnnxRuntimeBackend.runtime}\n" in out
    assert "  tensorrt     missing: tensorrt is not installed: pip install it\n" in out


@pytest.mark.usefixtures("card")
def test_names_each_card_and_what_calculates_on_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    out = capsys.readouterr().out
    assert "card 0000:17:00.0: A card, compute capability 9.0, driver 570.1, CUDA 12.8, 80.0 GB of memory" in out
    assert "  tensorrt     usable: tensorrt 1 on A card\n" in out


@pytest.mark.usefixtures("plain")
def test_says_by_what_and_by_whose_profile(own_repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    profile = own_repository / "affine" / "1" / PROFILE
    assert run("--repository", str(own_repository)) == 0
    assert "  affine/1: served by onnxruntime; its profile is of this machine\nevery version can be" in capsys.readouterr().out
    change(profile, device={"processor": "another", "cores": 2, "runtime": "onnxruntime 1"})
    run("--repository", str(own_repository))
    assert "served by onnxruntime; measured again while it serves, for processor is " in capsys.readouterr().out
    profile.unlink()
    run("--repository", str(own_repository))
    assert "served by onnxruntime; no profile: it is measured while it serves" in capsys.readouterr().out


@pytest.mark.usefixtures("plain")
def test_a_version_for_a_card_is_served_by_its_fallback_elsewhere(
    own_repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    version = own_repository / "affine" / "1"
    build_for(version)
    (version / FALLBACK_PROFILE).write_text((version / PROFILE).read_text())
    assert run("--repository", str(own_repository)) == 0
    wanted = (
        "served by onnxruntime, its slower fallback: tensorrt is not installed: pip install it; its profile is of this machine"
    )
    assert wanted in capsys.readouterr().out


@pytest.mark.usefixtures("card")
def test_a_version_that_another_library_built_is_named_before_it_is_loaded(
    own_repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    version = own_repository / "affine" / "1"
    build_for(version)
    assert run("--repository", str(own_repository)) == 0
    assert "served by tensorrt; " in capsys.readouterr().out
    build_for(version, runtime="tensorrt 0")
    assert run("--repository", str(own_repository)) == 0
    reason = "it was built by tensorrt 0, here is tensorrt 1; optimize the model again, or install the other version"
    assert f"served by onnxruntime, its slower fallback: {reason}" in capsys.readouterr().out
    build_for(version, runtime="tensorrt 0", fallback=None)
    assert run("--repository", str(own_repository)) == 1
    assert f"  PROBLEM affine/1: needs backend 'tensorrt': {reason}" in capsys.readouterr().out
    build_for(version, runtime="tensorrt 0", fallback="abacus")
    assert run("--repository", str(own_repository)) == 1
    assert f"{reason}; nor is there its fallback 'abacus': this ferry has onnxruntime, tensorrt;" in capsys.readouterr().out


@pytest.mark.usefixtures("plain")
def test_damage_and_models_without_a_version_are_problems(own_repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (own_repository / "affine" / "1" / "model.onnx").write_bytes(b"other")
    (own_repository / "empty").mkdir()
    assert run("--repository", str(own_repository)) == 1
    out = capsys.readouterr().out
    assert "PROBLEM affine/1: affine/1/model.onnx: damaged" in out
    assert "PROBLEM empty: has no version; publish one with `ferry optimize`, or remove the folder" in out
    assert "2 of 2 versions cannot be served here" in out


@pytest.mark.usefixtures("plain")
def test_older_versions_are_marked(own_repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tests.models import affine, publish_model

    publish_model(own_repository, "affine", affine(3.0))
    assert run("--repository", str(own_repository)) == 0
    out = capsys.readouterr().out
    assert "affine/1 (an older version): served" in out
    assert "affine/2: served" in out


@pytest.mark.usefixtures("plain")
def test_a_tokenizer_that_cannot_be_loaded_is_a_problem(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tokenizers")
    publish_text(tmp_path, "words")
    assert run("--repository", str(tmp_path)) == 0
    monkeypatch.setitem(__import__("sys").modules, "tokenizers", None)
    assert run("--repository", str(tmp_path)) == 1
    assert "PROBLEM words/1: tokenizer.json needs the library tokenizers" in capsys.readouterr().out


def test_an_empty_repository_and_none_at_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--repository", str(tmp_path)) == 0
    assert "no version; publish one with `ferry optimize`" in capsys.readouterr().out
    assert run("--repository", str(tmp_path / "nosuch")) == 2


def test_a_version_that_generates_and_one_without_its_tokenizer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    publish_talker(tmp_path)
    (found,) = diagnose(tmp_path, find_backends())
    assert not found.is_problem
    assert found.verdict.startswith("served by onnxruntime-decoder; ")
    (found,) = diagnose(tmp_path, Backends({}, {}, {}))
    assert found.is_problem
    assert "this ferry's for models that generate: none" in found.verdict
    assert run("--repository", str(tmp_path)) == 0
    assert "for models that generate" in capsys.readouterr().out
