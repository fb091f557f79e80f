"""What a server measured is found again by the next one; nothing else is, and nothing that goes wrong with it stops a server."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from server.contract.device import Device
from server.contract.manifest import Manifest
from server.contract.profiles import Profiles
from server.runtime.profile_cache import ProfileCache
from tests.server.contract.examples import DEVICE, MANIFEST_JSON, PROFILE_JSON

MANIFEST = Manifest.from_json(MANIFEST_JSON, "manifest")
PROFILES = Profiles.from_json(PROFILE_JSON, "profile")
HERE = Device(**DEVICE)


def test_the_next_server_finds_it(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "there"
    ProfileCache(folder).put(MANIFEST, PROFILES)
    assert ProfileCache(folder).get(MANIFEST, HERE) == PROFILES
    assert len(list(folder.iterdir())) == 1, "nothing is left behind"


def test_without_a_folder_it_lasts_as_long_as_the_server() -> None:
    cache = ProfileCache(None)
    assert cache.get(MANIFEST, HERE) is None
    cache.put(MANIFEST, PROFILES)
    assert cache.get(MANIFEST, HERE) == PROFILES
    assert ProfileCache(None).get(MANIFEST, HERE) is None


@pytest.mark.parametrize(
    ("manifest", "device"),
    [
        (replace(MANIFEST, files=(replace(MANIFEST.files[0], sha256="ef" * 32),)), HERE),
        (replace(MANIFEST, max_rows=4), HERE),
        (MANIFEST, replace(HERE, processor="another chip")),
        (MANIFEST, replace(HERE, cores=4)),
        (MANIFEST, replace(HERE, runtime="onnxruntime 2.0")),
    ],
)
def test_another_version_or_machine_does_not(manifest: Manifest, device: Device, tmp_path: Path) -> None:
    ProfileCache(tmp_path).put(MANIFEST, PROFILES)
    assert ProfileCache(tmp_path).get(manifest, device) is None


def edited(change: Callable[[Any], object]) -> Callable[[Path], object]:
    def edit(file: Path) -> None:
        data = json.loads(file.read_text())
        change(data)
        file.write_text(json.dumps(data))

    return edit


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda file: file.write_bytes(b"\xff"), "not valid JSON"),
        (lambda file: file.write_text(""), "not valid JSON"),
        (lambda file: file.write_text("[]"), "expected an object"),
        (lambda file: file.write_text('{"schema": 1, "model": "demo"}'), "field 'profile' is missing"),
        (edited(lambda data: data.update(schema=2)), "from a newer ferry"),
        (edited(lambda data: data.update(key="0" * 40)), "is of another version or machine"),
        (edited(lambda data: data["profile"]["device"].update(cores=64)), "is of another version or machine"),
        (edited(lambda data: data["profile"]["cells"].pop()), "must form a full grid"),
        (lambda file: (file.unlink(), file.mkdir()), "cannot be read"),
    ],
)
def test_what_is_damaged_or_foreign_is_ignored_and_told(
    damage: Callable[[Path], object], reason: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ProfileCache(tmp_path).put(MANIFEST, PROFILES)
    (file,) = tmp_path.iterdir()
    damage(file)
    assert ProfileCache(tmp_path).get(MANIFEST, HERE) is None
    (told,) = caplog.messages
    assert reason in told


def test_a_folder_that_cannot_be_written_to_is_told_and_what_was_measured_still_counts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    cache = ProfileCache(tmp_path / "file" / "folder")
    cache.put(MANIFEST, PROFILES)
    (told,) = caplog.messages
    assert "set profile_cache to a folder that can be written to" in told
    assert cache.get(MANIFEST, HERE) == PROFILES
