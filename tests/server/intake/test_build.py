"""The whole way from a model file to a version folder; and that a refusal writes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from server.backends.base import Array, BatchError
from server.contract.device import this_device
from server.contract.layout import LINEAGE, MANIFEST, PROFILE, read_folder
from server.contract.manifest import Check
from server.intake.build import Intake, build_version, measure_again
from server.intake.errors import IntakeError
from server.intake.measure import Effort
from tests.server.intake.fakes import IDS, MASK, MEAN, FakeBackend, X, Y, doubled, masked_mean, plain_mean

QUICK = Effort(cell_s=0.0, n_least=1, n_most=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model.onnx").write_bytes(b"a model")
    return tmp_path


@pytest.fixture(autouse=True)
def _one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one core there is one placement; how several are compared has tests of its own."""
    device = this_device("fake 1")
    monkeypatch.setattr("server.intake.build.this_device", lambda *_: replace(device, cores=1))
    monkeypatch.setattr("server.intake.measure.COARSE", QUICK)


def test_a_version_folder_that_verifies(folder: Path) -> None:
    (folder / LINEAGE).write_text("{}\n")
    backend = FakeBackend(doubled)
    earlier = Check("parity", True, "worst 0.1")
    seen: list[str] = []
    intake = Intake("demo", max_rows=4, checks=(earlier,), lineage_sha256="ab" * 32, effort=QUICK)
    manifest, profiles = build_version(folder, backend, intake, lambda what, *_: seen.append(what))
    found = read_folder(folder, "here", 1)
    assert (found.manifest, found.profiles) == (manifest, profiles)
    assert [entry.path for entry in manifest.files] == ["model.onnx", LINEAGE]
    assert [check.name for check in manifest.checks] == ["parity", "rows"]
    assert (manifest.max_rows, manifest.ragged, manifest.lineage_sha256) == (4, None, "ab" * 32)
    assert manifest.inputs[0].shape == ("batch", 4)
    assert profiles.profiles[0].measured_rows == (1, 2, 4)
    assert seen == ["loading", "checking rows", *["comparing placements"] * 3, *["1 rows", "2 rows", "4 rows"] * 3]
    assert all(session.is_closed for session in backend.sessions)


@pytest.mark.parametrize(("function", "mixes"), [(masked_mean, True), (plain_mean, False)])
def test_lengths_share_a_batch_only_where_padding_was_seen_to_change_nothing(
    function: object, mixes: bool, folder: Path
) -> None:
    backend = FakeBackend(function, [IDS, MASK], [MEAN])  # type: ignore[arg-type]
    intake = Intake("demo", lengths=(2, 16), pads={"ids": 3}, max_rows=2, effort=QUICK)
    manifest, profiles = build_version(folder, backend, intake, lambda *_: None)
    assert manifest.ragged is not None
    assert (manifest.ragged.mixes, dict(manifest.ragged.pads)) == (mixes, {"ids": 3, "mask": 0})
    assert (manifest.ragged.shortest, manifest.ragged.longest) == (2, 16)
    assert [check.passed for check in manifest.checks] == [True, mixes]
    assert profiles.profiles[0].measured_lengths == (2, 8, 16)


def test_the_users_own_samples_are_used(folder: Path) -> None:
    seen: list[float] = []

    def watch(inputs: Mapping[str, Array]) -> list[Array]:
        seen.extend(inputs["x"].reshape(-1).tolist())
        return doubled(inputs)

    single = {"x": np.full((1, 4), 5, np.float32)}
    build_version(folder, FakeBackend(watch), Intake("demo", singles=[single], max_rows=1, effort=QUICK), lambda *_: None)
    assert set(seen) == {5.0}


def test_a_file_for_one_row_is_published_for_one_row(folder: Path) -> None:
    one_row = [type(X)("x", X.datatype, (1, 4))], [type(Y)("y", Y.datatype, (1, 4))]
    manifest, _ = build_version(folder, FakeBackend(doubled, *one_row), Intake("demo", effort=QUICK), lambda *_: None)
    assert manifest.max_rows == 1


def fails_above(rows: int) -> object:
    def run(inputs: Mapping[str, Array]) -> list[Array]:
        if len(inputs["x"]) > rows:
            raise BatchError("too many")
        return doubled(inputs)

    return run


def fails_at_two(inputs: Mapping[str, Array]) -> list[Array]:
    if inputs["ids"].shape[1] == 8:
        raise BatchError("I do not like 8")
    return masked_mean(inputs)


@pytest.mark.parametrize(
    ("backend", "intake", "message"),
    [
        (FakeBackend(fails_above(3)), Intake("demo"), "the model fails on x [64, 4]: too many"),  # type: ignore[arg-type]
        (FakeBackend(lambda i: [i["x"][:1]]), Intake("demo"), "one row in must be one row out"),
        (FakeBackend(doubled), Intake("demo", pads={"ids": 1}), "a pad value is given for 'ids', which is not an input"),
        (FakeBackend(doubled), Intake("demo", singles=[{}]), "sample 0 has inputs [], the model wants ['x']"),
        (FakeBackend(doubled, [X], []), Intake("demo"), "the model needs at least one input and one output"),
        (FakeBackend(fails_at_two, [IDS, MASK], [MEAN]), Intake("demo", lengths=(2, 16), effort=QUICK),
         "the model fails while it is timed, at a size that no check tried: I do not like 8"),
    ],
)  # fmt: skip
def test_a_refusal_writes_nothing(backend: FakeBackend, intake: Intake, message: str, folder: Path) -> None:
    with pytest.raises(IntakeError) as caught:
        build_version(folder, backend, intake, lambda *_: None)
    assert message in str(caught.value)
    assert [path.name for path in folder.iterdir()] == ["model.onnx"]
    assert all(session.is_closed for session in backend.sessions)


def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(IntakeError, match=r"model.onnx cannot be loaded by fake 1: no such file"):
        build_version(tmp_path, FakeBackend(doubled), Intake("demo"), lambda *_: None)


def test_measuring_again_writes_nothing(folder: Path) -> None:
    backend = FakeBackend(masked_mean, [IDS, MASK], [MEAN])
    manifest, _ = build_version(folder, backend, Intake("demo", lengths=(1, 8), max_rows=2, effort=QUICK), lambda *_: None)
    before = {name: (folder / name).read_bytes() for name in (MANIFEST, PROFILE)}
    profiles = measure_again(folder, backend, manifest, lambda *_: None, QUICK)
    assert profiles.profiles[0].measured_lengths == (1, 8)
    assert profiles.device == replace(this_device("fake 1"), cores=1)
    assert {name: (folder / name).read_bytes() for name in before} == before
