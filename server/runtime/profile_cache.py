"""Profiles that servers have measured on this machine, so that the next start need not measure again. Never in the repository."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from pathlib import Path

from server.contract.device import Device
from server.contract.errors import ContractError
from server.contract.fields import Fields, check_schema
from server.contract.layout import read_json, write_json
from server.contract.manifest import Manifest
from server.contract.profiles import Profiles

log = logging.getLogger(__name__)

SCHEMA = 1


class ProfileCache:
    """One file for each version and machine, named by the digest of both. What is damaged or of something else is ignored."""

    def __init__(self, folder: Path | None) -> None:
        """None: it lasts as long as the server."""
        self._folder = folder
        self._known: dict[str, Profiles] = {}

    def get(self, manifest: Manifest, device: Device) -> Profiles | None:
        """What was measured of this version on such a machine. Blocking."""
        key = _key(manifest, device)
        if key in self._known or self._folder is None:
            return self._known.get(key)
        path = self._folder / f"{key}.json"
        if not path.exists():
            return None
        try:
            return self._read(path, key, device)
        except ContractError as error:
            log.warning("a profile that was kept is not used, batches are measured again: %s", error)
            return None

    def put(self, manifest: Manifest, profiles: Profiles) -> None:
        """Keep it; a folder that cannot be written to is told, nothing more. Blocking."""
        key = _key(manifest, profiles.device)
        self._known[key] = profiles
        if self._folder is None:
            return
        scratch = self._folder / f".{key}.{os.getpid()}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_json(scratch, {"schema": SCHEMA, "model": manifest.name, "key": key, "profile": profiles.to_json()})
            scratch.replace(self._folder / f"{key}.json")
        except OSError as error:
            log.warning(
                "the profile of %s cannot be kept in %s (%s): the next start measures again; set profile_cache to a folder "
                "that can be written to, or to off",
                manifest.name, self._folder, error.strerror,
            )  # fmt: skip

    def _read(self, path: Path, key: str, device: Device) -> Profiles:
        fields = Fields(read_json(path, str(path)), str(path))
        check_schema(fields, SCHEMA)
        fields.only(("schema", "model", "key", "profile"))
        profiles = Profiles.from_json(fields.mapping("profile"), f"{path}: profile")
        if fields.text("key") != key or profiles.device != device:
            raise ContractError(f"{path}: is of another version or machine")
        return profiles


def _key(manifest: Manifest, device: Device) -> str:
    """The manifest holds the digests of all files of the version."""
    facts = json.dumps([manifest.to_json(), device.to_json()], sort_keys=True)
    return hashlib.sha256(facts.encode()).hexdigest()[:40]
