"""Results for people and for machines: an aligned table, a JSON file and its reading. It measures nothing."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from loadtests.errors import BadInput


def table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell: the first one to the left, the others to the right."""
    widths = [max(len(line[at]) for line in [header, *lines]) for at in range(len(header))]
    rule = ["-" * width for width in widths]
    return "\n".join(_aligned(line, widths) for line in [header, rule, *lines])


def markdown(header: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table: the first column to the left, the others to the right."""
    rows = [header, ["---", *["---:"] * (len(header) - 1)], *lines]
    return ["| " + " | ".join(row) + " |" for row in rows]


def with_section(text: str, name: str, found: str) -> str:
    """A text with what is between its markers `<!-- name:begin -->` and `<!-- name:end -->` replaced. Raises BadInput without both."""
    marks = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    before, begin, rest = text.partition(marks[0])
    _, end, after = rest.partition(marks[1])
    if not begin or not end:
        raise BadInput(f"the file lacks the markers {marks[0]} and {marks[1]}")
    return f"{before}{begin}\n{found}\n{end}{after}"


def number(value: float | None, digits: int = 0) -> str:
    """A figure with thousands separators; a dash for one that is missing or undefined."""
    return "-" if value is None or value != value else f"{value:,.{digits}f}"


def write_json(folder: Path, name: str, content: dict[str, Any]) -> Path:
    """Write `<folder>/<name>-<UTC time>.json` (the folder is made) and return its path. NaN becomes null."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.json"
    file.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    return file


def read_json(file: Path, writers: Mapping[str, str]) -> dict[str, Any]:
    """The content of a result of one of these kinds. `writers`: kind → the module that writes it. Raises BadInput."""
    try:
        content = orjson.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise BadInput(f"cannot read {file}: {error}") from error
    if not isinstance(content, dict) or content.get("kind") not in writers:
        raise BadInput(f"{file} is not a result of {' or '.join(f'python -m {module}' for module in writers.values())}")
    return content


def machine_told(environment: Mapping[str, Any]) -> str:
    """In a phrase, on what a result was measured and at which commit. `environment`: as in its file."""
    commit, _, changes = (environment["git_commit"] or "unknown").partition("+")
    return f"{environment['cpu']}, {environment['cores']} cores, commit {commit[:10]}{changes and ' + changes'}"


def _aligned(line: Sequence[str], widths: Sequence[int]) -> str:
    rest = [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
    return "  ".join([line[0].ljust(widths[0]), *rest]).rstrip()
