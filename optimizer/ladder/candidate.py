"""What can be tried: a chain of transforms on the plain export, served by one backend. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optimizer.tensorrt.build import Products

OWN = "onnxruntime"
"""The backend that is always there, and whose kernels the plain export was checked with."""


@dataclass(frozen=True, slots=True)
class Step:
    """One transform. `name`: as the recipe writes it, one of the catalog's or "file.py:function"; `file` and `digest`: that file, and
    sha256 of it and of what it needs (None and "": the catalog's). `tools`: installed distributions that decide its result."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    file: Path | None = None
    digest: str = ""
    tools: tuple[str, ...] = ()

    @property
    def function(self) -> str:
        """Name of the user's function; only for a step that has a file."""
        return self.name.rpartition(":")[2]

    def config(self) -> dict[str, Any]:
        """All that decides its result besides its inputs and tools, as JSON."""
        return {"step": self.name, "options": dict(self.options), "code": self.digest}

    def __str__(self) -> str:
        options = ", ".join(f"{name}={value}" for name, value in self.options.items())
        return f"{self.name}({options})" if options else self.name


@dataclass(frozen=True, slots=True)
class Candidate:
    """`steps`: one after the other, on the plain export; none: the plain export itself. `why`: what is hoped of it. `products`: what the
    engine calculates in that is built of the file; None: the backend takes the file as it is."""

    name: str
    steps: tuple[Step, ...] = ()
    backend: str = OWN
    why: str = ""
    products: Products | None = None

    def config(self) -> dict[str, Any]:
        """As JSON, for keys."""
        made = {"name": self.name, "steps": [step.config() for step in self.steps], "backend": self.backend}
        return made if self.products is None else made | {"products": self.products.value}


PLAIN = Candidate("plain export", why="the safe version, checked against PyTorch to the last digits")
"""The baseline, which every other one must beat."""
