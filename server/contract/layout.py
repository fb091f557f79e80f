"""Where things lie in a model repository: <repository>/<model>/model.toml and <repository>/<model>/<version>/…"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from server.contract.errors import ContractError
from server.contract.manifest import FileEntry, Manifest
from server.contract.profiles import Profiles
from server.contract.step_profile import StepProfile
from server.contract.wants import FILE as WANTS

MANIFEST = "manifest.json"
PROFILE = "profile.json"
FALLBACK_PROFILE = "profile.fallback.json"
LINEAGE = "lineage.jsonl"
REPORT = "report.html"
REPORT_DATA = "report.json"
TOKENIZER = "tokenizer.json"
STEPS = "steps.json"
CHAT_TEMPLATE = "chat_template.jinja"
STAGING = ".staging"

_MODEL_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,127}")
_RESERVED = ("stats",)
_VERSION = re.compile(r"[1-9][0-9]{0,17}")


@dataclass(frozen=True, slots=True)
class VersionFiles:
    """One version on disk, read and verified. `profiles` is None where there is no such file: then it is learnt what batches take.

    `fallback_profiles`: likewise for the manifest's fallback; None where there is none. `steps`: of a version that generates.
    """

    folder: Path
    version: int
    manifest: Manifest
    profiles: Profiles | None
    fallback_profiles: Profiles | None = None
    steps: StepProfile | None = None

    @property
    def by_fallback(self) -> VersionFiles:
        """The same version as one that the fallback serves. Only for a manifest that names one."""
        assert self.manifest.fallback is not None, "the caller asked for it"
        manifest = replace(self.manifest, backend=self.manifest.fallback, fallback=None, built_for=None)
        return VersionFiles(self.folder, self.version, manifest, self.fallback_profiles)


def check_model_name(name: str) -> str:
    """The name itself. Raises ContractError for one that could not be a folder and a URL segment alike."""
    if name in _RESERVED:
        raise ContractError(f"model name {name!r} is not allowed: the route /v2/models/{name} has another meaning")
    if not _MODEL_NAME.fullmatch(name):
        raise ContractError(
            f"model name {name!r} is not allowed; use 1 to 128 letters, digits, '_', '-' and '.', not starting with '-' or '.'"
        )
    return name


def check_repository(folder: Path) -> Path:
    """The folder itself. Raises ContractError for none, and for the folder of a single model, which is one level too deep."""
    if not folder.is_dir():
        raise ContractError(f"no model repository at {folder}; make one with `ferry optimize`, or give --repository")
    if (folder / WANTS).is_file():
        raise ContractError(
            f"{folder} is the folder of one model; give the repository, which is the folder that holds it: {folder.absolute().parent}"
        )
    return folder


def model_names(repository: Path) -> list[str]:
    """Folders that may be models, sorted; hidden ones (staging) are not."""
    return sorted(p.name for p in repository.iterdir() if p.is_dir() and _MODEL_NAME.fullmatch(p.name))


def versions(model_folder: Path) -> list[int]:
    """Published versions of a model, ascending; empty when the folder does not exist."""
    if not model_folder.is_dir():
        return []
    return sorted(int(p.name) for p in model_folder.iterdir() if p.is_dir() and _VERSION.fullmatch(p.name))


def describe_file(path: Path) -> FileEntry:
    """The manifest's entry for a file: name, digest, size."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FileEntry(path.name, digest, path.stat().st_size)


def read_version(model_folder: Path, version: int) -> VersionFiles:
    """Read one version and verify every digest.

    Raises ContractError naming the file, for a missing, damaged or foreign one.
    """
    folder = model_folder / str(version)
    found = read_folder(folder, f"{model_folder.name}/{version}", version)
    if found.manifest.name != model_folder.name:
        raise ContractError(
            f"{model_folder.name}/{version}/{MANIFEST}: is for model {found.manifest.name!r}; "
            "a version folder cannot be copied between models: publish it again"
        )
    return found


def read_folder(folder: Path, where: str, version: int) -> VersionFiles:
    """Like read_version, for a folder that lies anywhere; `where` starts every error."""
    manifest = Manifest.from_json(read_json(folder / MANIFEST, f"{where}/{MANIFEST}"), f"{where}/{MANIFEST}")
    for entry in manifest.files:
        _verify(folder / entry.path, entry, f"{where}/{entry.path}")
    profiles = _read_profiles(folder, PROFILE, where, manifest)
    by_fallback = _read_profiles(folder, FALLBACK_PROFILE, where, manifest) if manifest.fallback else None
    steps = None
    if manifest.generation and (folder / STEPS).exists():
        steps = StepProfile.from_json(read_json(folder / STEPS, f"{where}/{STEPS}"), f"{where}/{STEPS}")
    return VersionFiles(folder, version, manifest, profiles, by_fallback, steps)


def read_json(path: Path, where: str) -> Any:
    """Decoded JSON. Raises ContractError when the file is missing, cannot be read or is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise ContractError(f"{where}: missing; the version folder is incomplete, publish it again") from None
    except OSError as error:
        raise ContractError(f"{where}: cannot be read ({error.strerror}); it must be a file that the server may read") from None
    except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, a number or nesting without bounds
        raise ContractError(f"{where}: not valid JSON ({error}); the file is damaged, publish the version again") from None


def write_json(path: Path, data: Any) -> None:
    """Indented, with a final newline, so that people can read and diff it."""
    path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def _read_profiles(folder: Path, name: str, where: str, manifest: Manifest) -> Profiles | None:
    if not (folder / name).exists():
        return None
    profiles = Profiles.from_json(read_json(folder / name, f"{where}/{name}"), f"{where}/{name}")
    if (manifest.text is None) != (profiles.text is None):
        raise ContractError(f"{where}: manifest and {name} do not agree on whether it takes text; publish the version again")
    return profiles


def _verify(path: Path, entry: FileEntry, where: str) -> None:
    if path.is_symlink() or not path.is_file():
        raise ContractError(f"{where}: missing or not a regular file; publish the version again")
    found = describe_file(path)
    if found != entry:
        raise ContractError(
            f"{where}: damaged: the manifest promises {entry.bytes} bytes with sha256 {entry.sha256[:12]}…, "
            f"found {found.bytes} with {found.sha256[:12]}…; publish the version again"
        )
