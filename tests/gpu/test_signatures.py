"""The stub that types are checked against is one that a type checker can read. Needs no card."""

from __future__ import annotations

import pytest

from tests.gpu.signatures import mended, mended_line


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("def f(a: int = ..., b: list[int, str]) -> bool: ...", "def f(a: int = ..., b: list[int, str] = ...) -> bool: ..."),
        ("    def f(self, a: int, b: int = ...) -> None: ...", "    def f(self, a: int, b: int = ...) -> None: ..."),
        ("def f(a: int = ..., *args) -> None: ...", "def f(a: int = ..., *args) -> None: ..."),
        ("x: int = ...", "x: int = ..."),
    ],
)
def test_parameters_after_one_with_a_default_have_one(line: str, wanted: str) -> None:
    assert mended_line(line) == wanted


def test_what_signatures_do_not_tell_is_added() -> None:
    stub = mended("import x\nbool: DataType\nclass OnnxParser:\n    def get_error(self, *args, **kwargs): ...\n")
    assert stub == "import x\nclass OnnxParser:\n    def get_error(self, index: int) -> ParserError: ...\n__version__: str\n"
