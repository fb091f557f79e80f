from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from loadtests import peers_report
from loadtests.report import with_section
from tests.loadtests.peers.example import comparison

ROOT = Path(__file__).resolve().parents[2]


def test_the_readme_shows_the_newest_comparison() -> None:
    """Whoever adds a result writes the section anew: python -m loadtests.peers_report FILE --readme README.md"""
    files = sorted((ROOT / "loadtests" / "results").glob("peers-*.json"))
    if not files:
        pytest.skip("no comparison has been measured yet")
    readme = (ROOT / "README.md").read_text()
    assert with_section(readme, "peers", peers_report.section(peers_report.read(files[-1]), files[-1].name)) == readme


def test_the_section_is_one_table_with_the_machine_the_limit_the_wins_and_the_reasons() -> None:
    found = peers_report.section(comparison(), "peers-X.json")
    assert "Some <CPU>, 2 cores, commit 0123456789; medians of 3 interleaved rounds" in found
    assert "`make bench-peers`" in found
    rows = [line for line in found.splitlines() if line.startswith("|")]
    assert len({row.count("|") for row in rows}) == 1
    assert rows[2].startswith("| ferry 1.0 | 1,000 | 1,000 | 2.00 | 1.00 / 0.70 | 50 (0.50) | 80 | 1.2 |")
    assert rows[3].startswith("| Fast (ferry-serving 1.0) |"), "a package whose name says something else is named"
    assert rows[5].startswith("| Gone | - | - |")
    assert rows[-1].startswith("| in process, no server | 4,000 |")
    assert "Ahead of ferry by 5 % or more: digits req/s: Fast 2x; CPU per request: Fast 2x." in found
    assert "Gone: no matching distribution" in found
    assert "Shaky, resnet18: 1 of 3 visits failed: status 500: boom" in found


def test_binary_tensors_stand_beside_json() -> None:
    content = comparison()
    for one in content["rounds"]:
        visits = one["visits"]
        visits["resnet18"]["ferry"]["lanes"]["binary"] = {"per_s": 90.0}
    assert "50 (0.50), binary 90" in peers_report.section(content, "f")


def test_a_late_generator_is_told() -> None:
    content = comparison()
    content["rounds"][0]["visits"]["digits"]["fast"]["overload"]["1.5"]["generator_kept_up"] = False
    found = peers_report.text(content)
    assert "1.00 / 0.00*" in found
    assert "without the rounds in which the load generator sent more than 1 % late" in found
    for one in content["rounds"]:
        one["visits"]["digits"]["fast"]["overload"]["1.5"]["generator_kept_up"] = False
    assert "1.00 / VOID" in peers_report.text(content)
    assert sum("VOID" in plot for plot in peers_report.plots(content)) == 1


def test_the_page_needs_nothing_else(tmp_path: Path) -> None:
    page = peers_report.write_html(tmp_path / "peers.html", comparison()).read_text()
    assert page.count("<svg") == 7
    assert "Some &lt;CPU&gt;" in page
    assert "did not run" in page
    assert "tried: batches: it fell" in page
    assert "src=" not in page
    assert "href=" not in page


def test_the_command_writes_the_section_and_leaves_the_rest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, readme = tmp_path / "peers-1.json", tmp_path / "README.md"
    file.write_bytes(orjson.dumps(comparison()))
    readme.write_text("before\n<!-- peers:begin -->\nstale text\n<!-- peers:end -->\nafter\n")
    assert peers_report.main([str(file), "--readme", str(readme), "--html", str(tmp_path / "page.html")]) == 0
    found = readme.read_text()
    assert found.startswith("before\n")
    assert found.endswith("after\n")
    assert "stale text" not in found
    assert with_section(found, "peers", peers_report.section(comparison(), "peers-1.json")) == found
    assert (tmp_path / "page.html").exists()
    assert "in process, no server" in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"oops", b"[]", b'{"kind":"bench"}'])
def test_other_files_are_refused(tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "f.json").write_bytes(content)
    assert peers_report.main([str(tmp_path / "f.json")]) == 1
    assert "f.json" in capsys.readouterr().err
