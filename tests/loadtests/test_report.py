from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from loadtests.errors import BadInput
from loadtests.report import machine_told, markdown, number, read_json, table, with_section, write_json


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


def test_a_result_is_read_again_and_nothing_else_is_taken_for_one(tmp_path: Path) -> None:
    writers = {"slo": "loadtests.bench_slo", "tuned": "loadtests.bench_tuned"}
    file = write_json(tmp_path, "slo", {"kind": "slo", "x": 1})
    assert read_json(file, writers) == {"kind": "slo", "x": 1}
    with pytest.raises(BadInput, match=r"is not a result of python -m loadtests\.bench_tuned$"):
        read_json(file, {"tuned": "loadtests.bench_tuned"})
    for wrong in (b"[]", b"{}"):
        file.write_bytes(wrong)
        with pytest.raises(BadInput, match=r"of python -m loadtests.bench_slo or python -m loadtests.bench_tuned$"):
            read_json(file, writers)
    file.write_bytes(b"{")
    for unreadable in (file, tmp_path / "nosuch"):
        with pytest.raises(BadInput, match="cannot read"):
            read_json(unreadable, writers)


def test_a_machine_is_told_with_its_commit_and_whether_files_differ_from_it() -> None:
    where = {"cpu": "Some CPU", "cores": 2, "git_commit": "0123456789abcdef+changes"}
    assert machine_told(where) == "Some CPU, 2 cores, commit 0123456789 + changes"
    assert machine_told({**where, "git_commit": "0123456789abcdef"}) == "Some CPU, 2 cores, commit 0123456789"
    assert machine_told({**where, "git_commit": None}) == "Some CPU, 2 cores, commit unknown"
