"""The benchmark of generation as tables, and the document that shows the newest result."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from loadtests import generation_report
from loadtests.report import with_section
from tests.loadtests.generation.example import result

ROOT = Path(__file__).resolve().parents[2]
DOC = ROOT / "docs" / "generation-engine.md"


def test_the_document_shows_the_newest_result() -> None:
    """Whoever adds a result writes the section anew: python -m loadtests.generation_report FILE --doc docs/generation-engine.md"""
    found = sorted((ROOT / "loadtests" / "results").glob("bench-generation-*.json"))
    files = [file for file in found if orjson.loads(file.read_bytes()).get("kind") == generation_report.KIND]
    newest = "Not measured yet."
    if files:
        newest = generation_report.section(generation_report.read(files[-1]), files[-1].name)
    text = DOC.read_text()
    assert with_section(text, "generation", newest) == text


def test_a_section_has_the_command_the_machine_a_table_of_each_scene_and_the_verdicts() -> None:
    found = generation_report.section(result(), "bench-generation-X.json")
    assert "Some CPU, 2 cores, commit 0123456789: `python -m loadtests.bench_generation --rounds 2`" in found
    assert "(../loadtests/results/bench-generation-X.json)" in found
    assert "Left out: onnxruntime-genai engine: no wheel." in found
    tables = [part.splitlines() for part in found.split("\n\n") if part.startswith("|")]
    assert len(tables) == 7
    assert all(len({row.count("|") for row in rows}) == 1 for rows in tables)


@pytest.mark.parametrize(
    "line",
    [
        "| ferry, static batches | 385 | 2.60 | 1.000 |",
        "| int8 | 1,407 | 1,005 | 1.40 | 3.76 | 97.0% | 0.0012 |",
        "| ferry, waves | 750 | 1,500 | 1,200 |",
        "| round 1 | 10 | 25 | 2.50 | kept | 120 |",
        "| round 2 | 10 | 70 | 7.00 | BROKEN | 110 |",
        "it was kept in 2 of 3 rounds. Longest gap ÷ a plain step: median 3.00, worst 7.00.",
        "| longest gap as a long prompt comes / a plain step | 3 | <= 4 | holds; the worst round: 7, which misses |",
        "One run of each load, by one seed: no medians.",
        "Same answers: in the round with the fewest, as ferry gave them in its first.",
        "| 3 x | 990 | 40.0% | 60.0% | 0.0% |",
        "| encoder together | 91.0% (90.0, 92.0) | 10.0% (10.0, 10.0) | 31 |  | 2 of 2 |",
        "| decoder alone | 100.0% (100.0, 100.0) | 12.5% (12.5, 12.5) | 250 | - | 2 of 2 |",
        "| ferry / transformers, continuous | 2.5 | >= 3 | MISSES by 16.7% |",
    ],
)
def test_what_was_measured_is_in_the_section(line: str) -> None:
    assert line in generation_report.section(result(), "f")


def test_rounds_whose_generator_was_late_have_a_star_and_do_not_count() -> None:
    late = result()
    late["company"]["rounds"][0]["together"]["encoder"]["generator_kept_up"] = False
    found = generation_report.section(late, "f")
    assert "| encoder together | 92.0% (90.0*, 92.0) | 10.0% (10.0*, 10.0) | 31 |  | 1 of 2 |" in found
    assert "| encoder alone | 100.0% (100.0, 100.0) |" in found
    late["company"]["rounds"][1]["together"]["encoder"]["generator_kept_up"] = False
    found = generation_report.section(late, "f")
    assert "| decoder together | 85.0% (85.0*, 85.0*) | 12.5% (12.5*, 12.5*) | 250 | - | 0 of 2: VOID |" in found
    assert "| encoder in its SLO beside the decoder, share of all requests | 0.91 | >= 0.95 | VOID |" in found


def test_alone_the_decoder_is_not_void_for_the_encoders_generator() -> None:
    late = result()
    for one in late["company"]["rounds"]:
        one["alone"]["encoder"]["generator_kept_up"] = False
    found = generation_report.section(late, "f")
    assert "| encoder alone | 100.0% (100.0*, 100.0*) | 10.0% (10.0*, 10.0*) | 31 |  | 0 of 2: VOID |" in found
    assert "| decoder alone | 100.0% (100.0, 100.0) | 12.5% (12.5, 12.5) | 250 | - | 2 of 2 |" in found


def test_an_older_file_is_told_as_what_it_is() -> None:
    old = result()
    del old["backlog"]["same_answers_by_round"], old["backlog"]["engine_over_static"], old["gap"]["objective_s"]
    found = generation_report.section(old, "f")
    assert (
        "*same answers* is of its last round alone, and transformers' manager of continuous batching was made and stopped"
        in found
    )
    assert "| round 1 | 10 | 25 | 2.50 | - | 120 |" in found
    assert "The model promises" not in found
    assert "it was kept" not in found


@pytest.mark.parametrize(
    "file", sorted((ROOT / "loadtests" / "results").glob("bench-generation-*.json")), ids=lambda file: file.stem
)
def test_every_result_that_was_kept_can_be_read(file: Path) -> None:
    if orjson.loads(file.read_bytes()).get("kind") != generation_report.KIND:
        pytest.skip("of before results said what they are")
    assert "| claim | found | bound |" in generation_report.section(generation_report.read(file), file.name)


def test_scenes_that_did_not_run_are_left_out() -> None:
    some = {name: one for name, one in result().items() if name not in ("arrivals", "company")}
    found = generation_report.text(some)
    assert "as they come" not in found
    assert "all at once" in found


def test_a_scene_that_failed_is_told() -> None:
    found = generation_report.section({**result(), "failed": {"gap": "nobody decoded"}}, "f")
    assert "Failed: gap: nobody decoded" in found


def test_the_command_writes_the_section_and_leaves_the_rest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    doc, file = tmp_path / "doc.md", tmp_path / "bench-generation-X.json"
    doc.write_text("before\n<!-- generation:begin -->\nstale\n<!-- generation:end -->\nafter\n")
    file.write_bytes(orjson.dumps(result()))
    assert generation_report.main([str(file), "--doc", str(doc)]) == 0
    text = doc.read_text()
    assert text.startswith("before\n<!-- generation:begin -->\nSome CPU")
    assert text.endswith("<!-- generation:end -->\nafter\n")
    assert "ferry, waves" in capsys.readouterr().out


def test_another_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "other.json"
    file.write_text('{"kind": "peers"}')
    assert generation_report.main([str(file)]) == 1
    assert "is not a result of python -m loadtests.bench_generation" in capsys.readouterr().err
    assert generation_report.main([str(tmp_path / "none.json")]) == 1
    assert "cannot read" in capsys.readouterr().err
