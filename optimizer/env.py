"""Which tools a result depends on, found without importing any of them."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path

from optimizer.errors import OptimizeError

_ROOT = Path(__file__).resolve().parent.parent
_OWN_CODE = (
    "optimizer/sources", "optimizer/stages", "optimizer/checks", "optimizer/transforms", "optimizer/ladder", "optimizer/decoder", "optimizer/tensorrt",
    "server/backends", "server/contract", "server/intake",
)  # fmt: skip


def tool_versions(distributions: Iterable[str]) -> dict[str, str]:
    """Versions of Python, ferry's own code and installed distributions, by name, sorted.

    Raises OptimizeError for a distribution that is not installed.
    """
    versions = {name: _version(name) for name in distributions}
    versions["python"] = platform.python_version()
    versions["ferry"] = f"code {_own_code_digest()[:12]}"
    return dict(sorted(versions.items()))


def distributions_of(modules: Iterable[str]) -> set[str]:
    """Installed distributions that provide the given top-level modules; unknown modules are left out."""
    providers = _providers()
    return {providers[module][0] for module in modules if module in providers}


@cache
def _providers() -> Mapping[str, Sequence[str]]:
    """Top-level modules → the distributions that provide them; looking takes a fifth of a second."""
    return metadata.packages_distributions()


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        raise OptimizeError(
            f"{distribution} is not installed; optimizing a Python file needs it: pip install 'ferry-serving[optimizer]' "
            "(a finished .onnx file needs neither torch nor onnx)"
        ) from None


def _own_code_digest() -> str:
    """Results of another ferry are not reused, even where a checkout changes under the same version number."""
    digest = hashlib.sha256()
    for path in sorted(path for folder in _OWN_CODE for path in (_ROOT / folder).glob("*.py")):
        digest.update(f"{path.parent.name}/{path.name}\0".encode() + path.read_bytes())
    return digest.hexdigest()
