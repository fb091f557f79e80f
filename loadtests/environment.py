"""What a figure was measured on and by: processor, cores, versions, commit, command. Written beside every result."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("numpy", "onnxruntime", "orjson", "uvicorn", "uvloop", "httptools", "fastapi")


def environment(packages: Sequence[str] = PACKAGES) -> dict[str, Any]:
    """Plain values for JSON; what is not known on this machine is None."""
    return {
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release().partition("-")[0],
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in packages},
        "git_commit": git_commit(),
    }


def heading(module: str, arguments: Sequence[str], options: Mapping[str, object]) -> dict[str, Any]:
    """How a result begins: the command that makes it again, its options, this machine; without the places where it keeps things."""
    words = [_without_place(word) for word in arguments]
    told = {name: _without_place(str(one)) if isinstance(one, str | Path) else one for name, one in options.items()}
    return {"command": shlex.join(["python", "-m", module, *words]), "options": told, "environment": environment()}


def _without_place(text: str) -> str:
    """Absolute paths in a command or a flag, by their last part only."""
    return " ".join(Path(word).name if word.startswith("/") else word for word in text.split(" "))


def cpu_model() -> str | None:
    """The processor's name as the kernel tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)


def git_commit() -> str | None:
    """The commit of the working folder, with `+changes` if files differ from it; None outside a repository."""
    commit = _git("rev-parse", "--verify", "HEAD")
    return commit and commit + ("+changes" if _git("status", "--porcelain") else "")


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
