"""Alert rules of Prometheus in a folder: which of a model's troubles somebody would be told of.

The files are searched for what rules look like, not read as YAML: that needs no library, and is enough to see that none is there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

TROUBLES = {
    "late answers": ("ferry_late", "ferry_request_seconds", "ferry_request_p99_seconds"),
    "refusals": ("ferry_refused",),
    "failures": ("ferry_failed",),
}
"""What somebody must be told of → the metrics that show it, one of which is enough."""

_FILES = ("*.yml", "*.yaml", "*.rules")
_ALERT = re.compile(r"^[ \t]*(?:-[ \t]+)?alert:[ \t]*(.+)$", re.MULTILINE)
_EXPR = re.compile(r"^([ \t]*)(?:-[ \t]+)?expr:(.*(?:\n(?:\1[ \t]+.*|[ \t]*))*)", re.MULTILINE)
_SELECTOR = re.compile(r"""\bmodel\s*(=~|!~|!=|=)\s*["']([^"']*)["']""")
_OPERATOR = "kind: PrometheusRule"
"""A Kubernetes object, which the operator hands to Prometheus itself."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """`covered` and `missing` of TROUBLES, for one model. `unread`: a file with rules that no configuration reads; None: all are."""

    n_rules: int
    covered: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unread: str | None = None


def look_for_alerts(folder: Path, model: str) -> Coverage:
    """In all files below the folder; none where there is no such folder."""
    texts = {path: path.read_text(encoding="utf-8", errors="replace") for path in _files(folder)}
    rules = {path: list(_expressions(text)) for path, text in texts.items()}
    found = [expression for expressions in rules.values() for expression in expressions if _is_about(expression, model)]
    covered = tuple(trouble for trouble, metrics in TROUBLES.items() if any(_mentions(one, metrics) for one in found))
    configured = " ".join(line for text in texts.values() for line in _rule_files(text))
    unread = [path for path, expressions in rules.items() if expressions and not _is_read(path, texts[path], configured)]
    return Coverage(
        sum(len(expressions) for expressions in rules.values()), covered,
        tuple(trouble for trouble in TROUBLES if trouble not in covered), unread[0].name if unread else None,
    )  # fmt: skip


def _files(folder: Path) -> Iterator[Path]:
    for pattern in _FILES:
        yield from sorted(path for path in folder.rglob(pattern) if path.is_file() and not path.is_symlink())


def _expressions(text: str) -> Iterator[str]:
    """The condition of each alert."""
    starts = [match.start() for match in _ALERT.finditer(text)]
    for start, end in pairwise([*starts, len(text)]):
        condition = _EXPR.search(text, start, end)
        yield condition[2] if condition else ""


def _mentions(expression: str, metrics: tuple[str, ...]) -> bool:
    return any(re.search(rf"\b{metric}(?:_total|_bucket|_sum|_count)?\b", expression) for metric in metrics)


def _is_about(expression: str, model: str) -> bool:
    """Whether no selector leaves the model out."""
    return all(_selects(operator, value, model) for operator, value in _SELECTOR.findall(expression))


def _selects(operator: str, value: str, model: str) -> bool:
    if operator in ("=", "!="):
        return (value == model) is (operator == "=")
    try:
        matches = re.fullmatch(value.replace("\\\\", "\\"), model) is not None
    except re.error:
        return False
    return matches is (operator == "=~")


def _rule_files(text: str) -> Iterator[str]:
    """What a Prometheus configuration lists under rule_files, in either of YAML's forms."""
    for match in re.finditer(r"^rule_files:[ \t]*(\[[^\]]*\]|(?:\n[ \t]*-[ \t]*.+)*)", text, re.MULTILINE):
        yield match[1]


def _is_read(path: Path, text: str, configured: str) -> bool:
    if _OPERATOR in text:
        return True
    patterns = re.findall(r"[^\s,\[\]\"'-][^\s,\[\]\"']*", configured)
    return any(path.match(Path(pattern).name) for pattern in patterns)
