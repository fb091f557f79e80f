"""The source files as parsed trees, for the tests of the architecture."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("server", "optimizer", "loadtests")


@dataclass(frozen=True)
class Module:
    """One file: its dotted name and text, and once it is asked for, its tree."""

    name: str
    path: Path
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def where(self) -> str:
        return str(self.path.relative_to(ROOT))

    def is_in(self, *packages: str) -> bool:
        return any(self.name == package or self.name.startswith(package + ".") for package in packages)

    @cached_property
    def imports(self) -> tuple[str, ...]:
        """Every module that is imported anywhere in the file, inside functions and for type checkers too."""
        return tuple(self._imports())

    def _imports(self) -> Iterator[str]:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.where}:{node.lineno}: relative import"
                names = [f"{node.module}.{alias.name}" for alias in node.names]
                yield from (name if is_module(name) else str(node.module) for name in names)

    @cached_property
    def attributes(self) -> tuple[tuple[str, int], ...]:
        """Dotted names that are read ("os.environ"), and names imported by `from`, with their lines."""
        return tuple(self._attributes())

    def _attributes(self) -> Iterator[tuple[str, int]]:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                yield f"{node.value.id}.{node.attr}", node.lineno
            elif isinstance(node, ast.ImportFrom):
                yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


@cache
def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


@cache
def modules(*packages: str) -> tuple[Module, ...]:
    """All modules of the product, or of some packages."""
    found = []
    for path in sorted(file for package in (packages or PACKAGES) for file in (ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found.append(_module(".".join(parts[:-1] if parts[-1] == "__init__" else parts), path))
    return tuple(found)


@cache
def _module(name: str, path: Path) -> Module:
    """One for each file, in whatever packages it was asked for: parsing them all takes seconds."""
    return Module(name, path, path.read_text(encoding="utf-8"))
