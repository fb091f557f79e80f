from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from loadtests import slo_report
from loadtests.report import with_section
from tests.loadtests.slo_examples import contents

ROOT = Path(__file__).resolve().parents[2]
DOC = ROOT / "docs" / "slo-on-the-wire.md"


@pytest.mark.parametrize("kind", ["slo", "overload", "tuned"])
def test_the_document_shows_the_newest_result(kind: str) -> None:
    """Whoever adds a result writes the section anew: python -m loadtests.slo_report FILE --doc docs/slo-on-the-wire.md"""
    files = sorted((ROOT / "loadtests" / "results").glob(f"{kind}-*.json"))
    text = DOC.read_text()
    newest = "Not measured yet." if not files else slo_report.section(slo_report.read(files[-1]), files[-1].name)
    assert with_section(text, kind, newest) == text


@pytest.mark.parametrize("kind", ["slo", "overload", "tuned"])
def test_a_section_has_the_command_the_machine_one_table_of_figures_and_one_of_claims(kind: str) -> None:
    found = slo_report.section(contents()[kind], f"{kind}-X.json")
    assert "Some CPU, 2 cores, commit 0123456789 + changes: `python -m loadtests.bench_slo`" in found
    assert f"(../loadtests/results/{kind}-X.json)" in found
    assert "| a claim | 0.9 | >= 0.95 | MISSES by 5.3% |" in found
    tables = [part.splitlines() for part in found.split("\n\n") if part.startswith("|")]
    assert len(tables) == 2
    assert all(len({row.count("|") for row in rows}) == 1 for rows in tables)


def test_a_model_is_one_line_with_all_its_loads() -> None:
    assert "| m | 50 | 110.0 | 100.0 | 99.0 | 98.0 | 96.0 | 40.0 | 45.0 | - | 0% | 50% | 75% | 10% |  |" in slo_report.section(
        contents()["slo"], "f"
    )


def test_an_overload_is_told_by_phase_and_says_what_its_peak_is() -> None:
    found = slo_report.section(contents()["overload"], "f")
    assert "Peak: 1,000 requests/s of 16 rows (closed loop of 64 connections); 1,024 independent clients" in found
    assert "| 1, 1.5 x, after | 1,500 | 1,400 | 900 | 30.0 | 1 | 1 | 1 | 1 | 1 | 1 |  | 0 | 0.25 |" in found
    assert "| 1, 3 x, after | 1,500 | 1,400 | 900 | 30.0 | 1 | 1 | 1 | 1 | 1 | 1 | VOID | 0 | - |" in found


def test_contestants_are_medians_of_the_rounds_that_ran_and_who_did_not_run_has_a_reason() -> None:
    found = slo_report.section(contents()["tuned"], "f")
    assert "| digits, ferry | 100 | 85 | 0.85 | 40.0 | 30% |  | untouched |" in found
    assert "| digits, fast, tuned | 200 | 100 | 0.50 | 40.0 | 30% |  | queue of 40 |" in found
    assert "digits, gone: it fell" in found
    assert "Lost: no such package" in found
    assert "digits, fast, tuned: 1 of 2 visits failed: x" in found


def test_the_command_writes_the_sections_and_leaves_the_rest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    doc = tmp_path / "doc.md"
    doc.write_text(
        "before\n<!-- slo:begin -->\nstale\n<!-- slo:end -->\n<!-- tuned:begin -->\nstale\n<!-- tuned:end -->\nafter\n"
    )
    files = [tmp_path / "slo-1.json", tmp_path / "tuned-1.json"]
    for file, kind in zip(files, ("slo", "tuned"), strict=True):
        file.write_bytes(orjson.dumps(contents()[kind]))
    assert slo_report.main([*map(str, files), "--doc", str(doc)]) == 0
    text = doc.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "stale" not in text
    assert "digits, ferry" in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"oops", b"[]", b'{"kind":"peers"}'])
def test_other_files_are_refused(tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "f.json").write_bytes(content)
    assert slo_report.main([str(tmp_path / "f.json")]) == 1
    assert "f.json" in capsys.readouterr().err
