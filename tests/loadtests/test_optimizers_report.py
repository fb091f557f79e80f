"""The comparison of optimizers as tables, and the document that shows the newest one."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from loadtests import optimizers_report
from loadtests.report import with_section
from tests.loadtests.optimizers.example import comparison

ROOT = Path(__file__).resolve().parents[2]
DOC = ROOT / "docs" / "optimizers-compared.md"


def test_the_document_shows_the_newest_result() -> None:
    """Whoever adds a result writes the section anew: python -m loadtests.optimizers_report FILE --doc docs/optimizers-compared.md"""
    files = sorted((ROOT / "loadtests" / "results").glob("optimizers-*.json"))
    newest = "Not measured yet."
    if files:
        newest = optimizers_report.section(optimizers_report.read(files[-1]), files[-1].name)
    text = DOC.read_text()
    assert with_section(text, "optimizers", newest) == text


def test_a_section_has_the_command_the_machine_the_versions_and_two_tables() -> None:
    found = optimizers_report.section(comparison(), "optimizers-X.json")
    assert "Some CPU, 2 cores, commit 0123456789 + changes: `python -m loadtests.bench_optimizers`" in found
    assert "(../loadtests/results/optimizers-X.json)" in found
    assert "Swift: swift 1." in found
    tables = [part.splitlines() for part in found.split("\n\n") if part.startswith("|")]
    assert len(tables) == 2
    assert all(len({row.count("|") for row in rows}) == 1 for rows in tables)


def test_a_version_is_one_line() -> None:
    found = optimizers_report.section(comparison(), "f")
    line = "| digits, swift fp32 | onnxruntime | 4.00 | 110.0 | 1.10 | 150.0 | 1.50 | 1.00000 / 0.99900 | 0.750 | 0.9880 | passes | 12 |"
    assert line in found
    assert "| digits, swift slow | onnxruntime | 4.00 | - | - | 150.0 |" in found


def test_what_fails_is_served_otherwise_or_not_at_all_has_its_reason() -> None:
    found = optimizers_report.text(comparison())
    assert "digits, swift int8: fails in quality: mean cosine 0.95000, wanted is 0.999" in found
    assert "digits, swift int8: served one row at a time, as ferry refused it otherwise: rows influence each other" in found
    assert "digits, swift int4: not served: it fell" in found
    assert "digits, swift slow: too slow in the closed loop" in found
    assert found.count("the load generator could not keep up") == 1
    assert (
        "digits: plain export and swift fp32 are the same file: what differs between them is chance, 10.0% in the rate within the objective, "
        "0.0% in the closed loop." in found
    )
    assert "digits: plain export on OpenVINO is the file of plain export, on openvino-bf16 instead of onnxruntime" in found
    assert "Swift: It cannot fly." in found


def test_a_limited_rival_is_not_told_as_beaten_whatever_the_file_says() -> None:
    content = comparison()
    content["models"]["digits"]["versions"]["swift fp32"]["limited"] = True
    assert content["verdicts"][2]["holds"]
    line = "| digits: rate within the objective / Swift's best (swift fp32) | 1.82 | >= 0.97 | limited: proves little |"
    assert line in optimizers_report.section(content, "f")


def test_what_a_library_alone_is_worth_is_told_or_said_to_be_unknown() -> None:
    content = comparison()
    versions = content["models"]["digits"]["versions"]
    versions["ferry optimize"]["backend"] = "openvino-bf16"
    unknown = "digits: ferry optimize is served by openvino-bf16, and no plain export was: how much of its gain is that library's is not known."
    assert unknown not in optimizers_report.text(content)
    del versions["plain export on OpenVINO"]
    assert unknown in optimizers_report.text(content)
    versions["ferry optimize"]["sha256"] = versions["plain export"]["sha256"]
    found = optimizers_report.text(content)
    assert unknown not in found
    assert "digits: ferry optimize is the file of plain export, on openvino-bf16 instead of onnxruntime" in found


def test_the_command_writes_the_section_and_leaves_the_rest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    doc, file = tmp_path / "doc.md", tmp_path / "optimizers-X.json"
    doc.write_text("before\n<!-- optimizers:begin -->\nstale\n<!-- optimizers:end -->\nafter\n")
    file.write_bytes(orjson.dumps(comparison()))
    assert optimizers_report.main([str(file), "--doc", str(doc)]) == 0
    text = doc.read_text()
    assert text.startswith("before\n<!-- optimizers:begin -->\nSome CPU")
    assert text.endswith("<!-- optimizers:end -->\nafter\n")
    assert "swift int8" in capsys.readouterr().out


def test_another_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "other.json"
    file.write_text('{"kind": "peers"}')
    assert optimizers_report.main([str(file)]) == 1
    assert "is not a result of python -m loadtests.bench_optimizers" in capsys.readouterr().err
    assert optimizers_report.main([str(tmp_path / "none.json")]) == 1
    assert "cannot read" in capsys.readouterr().err
