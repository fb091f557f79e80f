"""The verbs as the `ferry` command finds them: declared, complete, and cheap to import."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[3]
_VERBS = ("gate", "diff", "profile", "estimate")
_HEAVY = {"torch", "onnx", "onnxruntime", "numpy"}


def declared(verb: str) -> tuple[str, str]:
    """Module and class, as pyproject.toml says."""
    data = tomllib.loads((_ROOT / "pyproject.toml").read_text())
    module, _, name = data["project"]["entry-points"]["ferry.verbs"][verb].partition(":")
    return module, name


@pytest.mark.parametrize("verb", _VERBS)
def test_each_is_declared_and_whole(verb: str) -> None:
    module, name = declared(verb)
    made = getattr(import_module(module), name)()
    assert made.help
    assert callable(made.configure)
    assert callable(made.run)


def test_help_needs_no_library() -> None:
    code = f"import sys, {', '.join(declared(verb)[0] for verb in _VERBS)}; print(sorted({_HEAVY} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=_ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
