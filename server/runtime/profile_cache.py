"""Profiles that servers have measured on this machine, so that the next start need not measure again. Never in the repository."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

from server.contract.device import Device
from server.contract.errors import ContractError
from server.contract.fields import Fields, check_schema
from server.contract.layout import read_json, write_json
from server.contract.manifest import Manifest
from server.contract.profiles import Profiles
from server.contract.step_profile import StepProfile

log = logging.getLogger(__name__)

SCHEMA = 1


class _Measured(Protocol):
    @property
    def device(self) -> Device: ...


_T = TypeVar("_T", bound=_Measured)


class ProfileCache:
    """One file for each version and machine, named by the digest of both. What is damaged or of something else is ignored."""

    def __init__(self, folder: Path | None) -> None:
        """None: it lasts as long as the server."""
        self._folder = folder
        self._known: dict[str, Profiles] = {}
        self._known_steps: dict[str, StepProfile] = {}

    def get(self, manifest: Manifest, device: Device) -> Profiles | None:
        """What was measured of this version on such a machine. Blocking."""
        key = _key(manifest, device)
        return self._known.get(key) or self._read(key, "profile", device, Profiles.from_json)

    def put(self, manifest: Manifest, profiles: Profiles) -> None:
        """Keep it; a folder that cannot be written to is told, nothing more. Blocking."""
        key = _key(manifest, profiles.device)
        self._known[key] = profiles
        self._write(key, manifest, "profile", profiles.to_json())

    def get_steps(self, manifest: Manifest, device: Device) -> StepProfile | None:
        """Likewise, of a version that generates."""
        key = _key(manifest, device)
        return self._known_steps.get(key) or self._read(key, "steps", device, StepProfile.from_json)

    def put_steps(self, manifest: Manifest, profile: StepProfile) -> None:
        """Likewise."""
        key = _key(manifest, profile.device)
        self._known_steps[key] = profile
        self._write(key, manifest, "steps", profile.to_json())

    def _read(self, key: str, what: str, device: Device, read: Callable[[object, str], _T]) -> _T | None:
        if self._folder is None:
            return None
        path = self._folder / f"{key}.json"
        if not path.exists():
            return None
        try:
            fields = Fields(read_json(path, str(path)), str(path))
            check_schema(fields, SCHEMA)
            fields.only(("schema", "model", "key", what))
            found = read(fields.mapping(what), f"{path}: {what}")
            if fields.text("key") != key or found.device != device:
                raise ContractError(f"{path}: is of another version or machine")
        except ContractError as error:
            log.warning("a profile that was kept is not used, it is measured again: %s", error)
            return None
        return found

    def _write(self, key: str, manifest: Manifest, what: str, profile: dict[str, Any]) -> None:
        if self._folder is None:
            return
        scratch = self._folder / f".{key}.{os.getpid()}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_json(scratch, {"schema": SCHEMA, "model": manifest.name, "key": key, what: profile})
            scratch.replace(self._folder / f"{key}.json")
        except OSError as error:
            log.warning(
                "the profile of %s cannot be kept in %s (%s): the next start measures again; set profile_cache to a folder "
                "that can be written to, or to off",
                manifest.name, self._folder, error.strerror,
            )  # fmt: skip


def _key(manifest: Manifest, device: Device) -> str:
    """The manifest holds the digests of all files of the version."""
    facts = json.dumps([manifest.to_json(), device.to_json()], sort_keys=True)
    return hashlib.sha256(facts.encode()).hexdigest()[:40]
