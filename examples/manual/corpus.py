"""The text to learn: docstrings of the standard library and Python's language reference, as questions and answers. Downloads nothing."""

from __future__ import annotations

import ast
import inspect
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

LEAST_CHARACTERS, MOST_CHARACTERS = 40, 2000
"""Of an answer: shorter ones say nothing, longer ones are cut at a paragraph."""

_NOT_THE_MANUAL = {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3", "__pycache__", "turtledemo"}


class Entry(NamedTuple):
    """What a reader may ask, and what the manual says."""

    question: str
    answer: str


def entries(library: Path | None = None) -> list[Entry]:
    """Each answer once, in the order of the files. `library`: a folder of sources; None: this Python's own, and its topics."""
    folder = library or Path(sysconfig.get_path("stdlib"))
    found = [entry for path in sorted(folder.rglob("*.py")) if _is_manual(path, folder) for entry in _docstrings(path, folder)]
    if library is None:
        found += _topics()
    once: dict[str, Entry] = {}
    for entry in found:
        once.setdefault(entry.answer, entry)
    return list(once.values())


def _is_manual(path: Path, folder: Path) -> bool:
    return not _NOT_THE_MANUAL.intersection(path.relative_to(folder).parts)


def _docstrings(path: Path, folder: Path) -> Iterator[Entry]:
    """Of the module, its classes and its functions, private ones left out."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old sources have escapes that newer Pythons warn of
            tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError):
        return  # the library has files that are wrong on purpose, for its own tests
    parts = path.relative_to(folder).with_suffix("").parts
    module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    yield from _of(tree, module, f"What is the module {module} for?")


def _of(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, name: str, question: str) -> Iterator[Entry]:
    answer = _shortened(ast.get_docstring(node) or "")
    if answer:
        yield Entry(question, answer)
    for child in node.body:
        if isinstance(child, ast.ClassDef) and not child.name.startswith("_"):
            yield from _of(child, f"{name}.{child.name}", f"What is the class {name}.{child.name}?")
        elif isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)) and not child.name.startswith("_"):
            yield from _of(child, f"{name}.{child.name}", f"What does {name}.{child.name} do?")


def _topics() -> Iterator[Entry]:
    """Of the language reference, as help() shows it: as many paragraphs at a time as fit into an answer."""
    from pydoc_data.topics import topics

    for name, text in sorted(topics.items()):
        for answer in _pieces(inspect.cleandoc(text)):
            yield Entry(f"What does the manual say about {name}?", answer)


def _shortened(text: str) -> str:
    """Whole paragraphs, as many as fit; nothing of a text that says nothing."""
    return next(_pieces(text), "")


def _pieces(text: str) -> Iterator[str]:
    """Paragraphs, as many at a time as fit into an answer; what is too short for one is left out."""
    kept = ""
    for paragraph in text.split("\n\n"):
        longer = f"{kept}\n\n{paragraph}" if kept else paragraph
        if kept and len(longer) > MOST_CHARACTERS:
            yield from _long_enough(kept)
            longer = paragraph
        kept = longer
    yield from _long_enough(kept)


def _long_enough(text: str) -> Iterator[str]:
    if len(text) >= LEAST_CHARACTERS:
        yield text[:MOST_CHARACTERS].strip()
