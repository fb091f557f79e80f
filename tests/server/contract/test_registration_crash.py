"""`kill -9` at any moment of a registration leaves the old repository or the new one."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("onnx")

from server.contract.layout import versions
from server.contract.publish import sweep
from server.contract.wants import Wants
from tests.models import affine, version_folder
from tests.server.contract.doomed import NEW_WANTS, OLD_WANTS, publish_one
from tests.server.contract.test_publish import leftovers, state

N_POINTS = 12
SLO_ONLY = Wants(NEW_WANTS.slo_s)


@pytest.fixture(scope="module")
def upload(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A packed version, measured here: examining it takes no time for measuring."""
    folder = version_folder(tmp_path_factory.mktemp("packed") / "version", "demo", affine(), max_rows=2)
    archive = folder.with_name("upload.zip")
    with zipfile.ZipFile(archive, "w") as packed:
        for path in folder.iterdir():
            packed.write(path, path.name)
    return archive


def register(kill_at: int, upload: Path, repository: Path, model: str) -> tuple[int, list[str]]:
    command = [
        sys.executable,
        "-m",
        "tests.server.contract.doomed_registration",
        str(kill_at),
        str(upload),
        str(repository),
        model,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[3])
    return done.returncode, done.stdout.splitlines()


@pytest.mark.parametrize("model", ["new", "old"])
def test_killed_at_many_moments(model: str, upload: Path, tmp_path: Path) -> None:
    original = tmp_path / "repository"
    original.mkdir()
    publish_one(original, "old", OLD_WANTS)
    before = state(original)
    after = {"new": {**before, "new": ([1], SLO_ONLY)}, "old": {"old": ([1, 2], SLO_ONLY)}}[model]

    whole = shutil.copytree(original, tmp_path / "whole")
    status, calls = register(0, upload, whole, model)
    assert (status, state(whole), leftovers(whole)) == (0, after, [])
    assert {"receive", "examine", "examining"} <= set(calls)

    # the call that makes the new version visible
    shown = next(place for place, call in enumerate(calls, 1) if call.startswith("rename") and call.endswith((" new", " 2")))
    spread = {1 + place * (len(calls) - 1) // (N_POINTS - 3) for place in range(N_POINTS - 2)}
    for kill_at in sorted(spread | {calls.index("examining") + 1, shown, shown + 1}):
        here = shutil.copytree(original, tmp_path / f"killed at {kill_at}")
        assert register(kill_at, upload, here, model)[0] == -9
        visible = state(here)
        assert visible == before if kill_at <= shown else visible != before
        sweep(here)
        assert state(here) == (before if kill_at <= shown else after), f"killed at {calls[kill_at - 1]!r}"
        assert leftovers(here) == []
        last = (versions(here / model) or [0])[-1]
        assert publish_one(here, model, NEW_WANTS) == last + 1
