"""What can be known of a user's Python file without running it: its digest, its name, its settings, its packages."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from optimizer.errors import SourceError
from optimizer.store import stable_hash
from server.contract.layout import describe_file

_SETTING = re.compile(r"[A-Z][A-Z0-9_]*")


@dataclass(frozen=True, slots=True)
class Scan:
    """`files`: the file, what it imports from its own folder, and what it names there. `packages`: other imports."""

    text: str
    files: tuple[Path, ...]
    packages: frozenset[str]
    settings: frozenset[str]
    name: str | None

    def digest(self, folder: Path) -> str:
        """Sha256 over the names, relative to `folder`, and contents of `files`."""
        return stable_hash([[p.relative_to(folder).as_posix(), describe_file(p).sha256] for p in self.files])


def scan_file(path: Path) -> Scan:
    """Raises SourceError when the file cannot be read, does not parse, or sets NAME to anything but a text."""
    text, tree = _parse(path)
    folder = path.parent
    files: dict[Path, None] = {path: None}
    packages: set[str] = set()
    todo = [tree]
    while todo:
        found, outside = _references(todo.pop(), folder)
        packages |= outside
        for file in sorted(found - set(files)):
            files[file] = None
            if file.suffix == ".py":
                todo.append(_parse(file)[1])
    assigned = dict(_assignments(tree))
    return Scan(text, tuple(sorted(files)), frozenset(packages), frozenset(assigned), _name(path, assigned.get("NAME")))


def _parse(path: Path) -> tuple[str, ast.Module]:
    try:
        text = path.read_text(encoding="utf-8")
        return text, ast.parse(text, str(path))
    except SyntaxError as error:
        raise SourceError(f"{path}: line {error.lineno}: not valid Python: {error.msg}") from None
    except UnicodeDecodeError:
        raise SourceError(f"{path}: is not text in UTF-8; give a Python file, or an .onnx file with that ending") from None
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror}") from None


def _references(tree: ast.AST, folder: Path) -> tuple[set[Path], set[str]]:
    """Files in `folder` that the code imports or names in a text, and the top-level packages from elsewhere."""
    own: set[Path] = set()
    outside: set[str] = set()
    for node in ast.walk(tree):
        for module in _imported(node):
            top = module.split(".")[0]
            found = _module_files(folder, top)
            own |= found
            if not found and top not in sys.stdlib_module_names:
                outside.add(top)
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            own |= _named_files(folder, node.value)
    return own, outside


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [node.module] if node.module else [alias.name for alias in node.names]
    return []


def _module_files(folder: Path, top: str) -> set[Path]:
    """A module of the folder, or all of a package of it."""
    module, package = folder / f"{top}.py", folder / top
    files = {module} if module.is_file() else set()
    return files | (set(package.rglob("*.py")) if (package / "__init__.py").is_file() else set())


def _named_files(folder: Path, text: str) -> set[Path]:
    """Weights and other data: "weights.pt" in the code and beside it counts as read by it, a folder with all it holds."""
    if not text or len(text) > 255 or text.startswith((".", "/")) or "\0" in text or ".." in text:
        return set()
    named = folder / text
    if named.is_file():
        return {named}
    return {path for path in named.rglob("*") if path.is_file()} if named.is_dir() else set()


def _assignments(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    """Upper-case names assigned at the top level of the file, and to what."""
    for node in tree.body:
        if isinstance(node, ast.Assign):
            pairs = [(target, node.value) for target in node.targets]
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            pairs = [(node.target, node.value)]
        else:
            continue
        for target, value in pairs:
            if isinstance(target, ast.Name) and _SETTING.fullmatch(target.id):
                yield target.id, value


def _name(path: Path, value: ast.expr | None) -> str | None:
    if value is None:
        return None
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        return value.value
    raise SourceError(f'{path}: NAME must be written as a plain text, like NAME = "digits"')
