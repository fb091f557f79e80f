from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from loadtests.errors import BadInput
from loadtests.report import markdown, number, table, with_section, write_json


def test_a_table_is_aligned() -> None:
    assert table(["", "req/s"], [["echo", "1,000"], ["a longer one", "7"]]).splitlines() == [
        "              req/s",
        "------------  -----",
        "echo          1,000",
        "a longer one      7",
    ]


def test_a_table_in_markdown() -> None:
    assert markdown(["", "req/s"], [["echo", "1,000"]]) == ["|  | req/s |", "| --- | ---: |", "| echo | 1,000 |"]


def test_a_section_is_replaced_and_the_rest_is_left() -> None:
    text = "a\n<!-- x:begin -->\nold\n<!-- x:end -->\n<!-- y:begin -->\nkept\n<!-- y:end -->\n"
    assert with_section(text, "x", "new") == text.replace("old", "new")
    with pytest.raises(BadInput, match="lacks the markers"):
        with_section(text, "z", "new")


def test_numbers_are_for_people() -> None:
    assert [number(1234.56), number(1234.56, 1), number(None), number(float("nan"))] == ["1,235", "1,234.6", "-", "-"]


def test_json_is_written_into_a_new_folder(tmp_path: Path) -> None:
    file = write_json(tmp_path / "new", "bench", {"rate": float("nan"), "n": 1})
    assert file.parent == tmp_path / "new"
    assert file.name.startswith("bench-")
    assert orjson.loads(file.read_bytes()) == {"rate": None, "n": 1}
