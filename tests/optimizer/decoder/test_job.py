"""Whole runs of a checkpoint: what is published, what is reused, what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from optimizer.decoder import job
from optimizer.decoder.trial import SMALLER, Gates
from optimizer.errors import OptimizeError, StageFailed
from optimizer.lineage import read_lineage
from optimizer.runs import Verdict
from server.backends.onnx_decoder import OnnxDecoderBackend
from server.contract.errors import ContractError
from server.contract.layout import read_version
from server.contract.wants import read_wants
from tests.optimizer.decoder.bench import WISH, DecoderBench
from tests.optimizer.decoder.tiny import TEMPLATE

EVERYTHING = [
    "export", "reference", "judge fp32", "int8", "judge int8", "int4", "judge int4", "steps"
]  # fmt: skip


def test_a_checkpoint_becomes_a_version_that_generates(first_run: DecoderBench) -> None:
    bench = first_run
    assert bench.ran == EVERYTHING
    assert bench.live == [1]
    files = read_version(bench.repository / "tiny", 1)
    manifest, generation, steps = files.manifest, files.manifest.generation, files.steps
    assert generation is not None
    assert steps is not None
    assert (manifest.backend, manifest.max_rows, manifest.schema) == ("onnxruntime-decoder", 1, 4)
    assert [(spec.name, spec.datatype.value, spec.shape) for spec in (*manifest.inputs, *manifest.outputs)] == [
        ("text_input", "BYTES", (1,)), ("text_output", "BYTES", (1,)),
    ]  # fmt: skip
    names = {"model.onnx", "model.onnx.data", "tokenizer.json", "chat_template.jinja", "lineage.jsonl"}
    assert {entry.path for entry in manifest.files} == names
    assert (files.folder / "chat_template.jinja").read_text(encoding="utf-8") == TEMPLATE
    assert (generation.longest, generation.ends, generation.specials["bos_token"]) == (128, (1,), "<s>")
    assert (steps.measured_rows, steps.measured_contexts) == ((1, 2, 4), (64, 127))
    assert read_wants(bench.repository / "tiny" / "model.toml").gap_s == 10.0
    stages = [line["stage"] for line in read_lineage(files.folder)]
    chosen = stages[-3].removeprefix("judge ")
    made = ["export"] if chosen == "fp32" else ["export", chosen]
    assert stages == [*made, "reference", f"judge {chosen}", "steps", "publish"]
    checks = {check.name: check for check in manifest.checks}
    assert checks["rows"].detail == "alone and in company, prompts whole and in chunks: not a bit differs"
    decoder = OnnxDecoderBackend().load(files.folder, generation, 2, 1)
    assert decoder.prefill([0], [np.array([2, 3])], 0).shape == (1, 320)
    decoder.close()


def test_the_report_shows_all_candidates(bench: DecoderBench) -> None:
    outcome = bench.run(gap_s=10.0)
    data = json.loads((outcome.report.parent / "report.json").read_text(encoding="utf-8"))
    assert [one["name"] for one in data["candidates"]] == ["fp32", "int8", "int4"]
    winner = next(one for one in data["candidates"] if one["gate"] is None)
    assert data["published"] == winner["name"]
    assert winner["rows"] == 4
    assert winner["tokens_per_s"] > 0
    assert data["candidates"][0]["top1"] == 1.0
    assert data["candidates"][2]["n_bytes"] < data["candidates"][1]["n_bytes"] < data["candidates"][0]["n_bytes"]
    assert data["compared_on"] == "4 texts of 128 tokens, from what the model itself writes"
    page = outcome.report.read_text(encoding="utf-8")
    assert f"was published as {winner['name']}, because" in page
    assert "<svg" in page
    assert 'text-anchor="middle">tokens/s within the gap</text>' in page
    assert "LlamaForCausalLM, 320 tokens in the vocabulary, up to 128 tokens" in page


def test_a_second_run_does_nothing_and_a_third_reuses_all(bench: DecoderBench) -> None:
    bench.run(gap_s=10.0)
    outcome = bench.run(slo_s=None)
    assert (outcome.verdict, bench.ran, bench.live) == (Verdict.UNCHANGED, [], [1])
    assert bench.run(slo_s=0.25).verdict is Verdict.UNCHANGED
    assert read_wants(bench.repository / "tiny" / "model.toml").slo_s == 0.25
    outcome = bench.run(force=True)
    assert (outcome.verdict, bench.ran, bench.live) == (Verdict.PUBLISHED, [], [1, 2])


def test_another_gap_is_decided_anew_from_the_cache(bench: DecoderBench) -> None:
    first = bench.run(gap_s=10.0)
    outcome = bench.run(gap_s=1e-9)
    assert bench.ran == []
    assert read_wants(bench.repository / "tiny" / "model.toml").gap_s == 1e-9
    if outcome.verdict is Verdict.PUBLISHED:  # another candidate is the best of single rows
        assert outcome.story is not None
        assert first.story is not None
        assert outcome.story.climbed.winner.name != first.story.climbed.winner.name
        assert "NOT EVEN ONE ANSWER KEEPS" in outcome.report.read_text(encoding="utf-8")


def test_a_candidate_that_is_not_good_enough_is_not_published(bench: DecoderBench) -> None:
    outcome = bench.run(wish=replace(WISH, gates=Gates(max_rise=-100.0)))
    assert outcome.verdict is Verdict.PUBLISHED
    assert outcome.story is not None
    assert outcome.story.climbed.winner.name == "fp32"
    reasons = [trial.failed.reason for trial in outcome.story.climbed.trials[1:] if trial.failed]
    assert len(reasons) == 2
    assert all("% more, allowed are -100 %" in reason or "likeliest token" in reason for reason in reasons)
    manifest = read_version(bench.repository / "tiny", 1).manifest
    assert [check.name for check in manifest.checks] == ["parity", "rows"]
    assert not manifest.is_coarse


def test_a_candidate_that_cannot_be_made_is_left_out(bench: DecoderBench) -> None:
    def before(what: str) -> None:
        if what == "int4":
            raise StageFailed("no such weights")

    bench.before = before
    outcome = bench.run(cache=bench.cache.with_name("cold"))
    assert outcome.verdict is Verdict.PUBLISHED
    assert ("int4", False, "no such weights") in bench.told_of
    assert outcome.story is not None
    assert [trial.name for trial in outcome.story.climbed.trials] == ["fp32", *(one.name for one in SMALLER)]
    assert outcome.story.climbed.trials[2].steps is None
    assert "<b>steps</b>: no such weights" in outcome.report.read_text(encoding="utf-8")


@pytest.mark.parametrize("stage", ["export", "judge fp32", "steps"])
def test_without_the_plain_export_nothing_is_published(stage: str, bench: DecoderBench) -> None:
    bench.run()

    def before(what: str) -> None:
        if what == stage:
            raise StageFailed("out of luck")

    bench.before = before
    outcome = bench.run(longest=96, wish=replace(WISH, candidates=(), slots=2), cache=bench.cache.with_name("other"))
    assert (outcome.verdict, outcome.version, bench.live) == (Verdict.REJECTED, None, [1])
    assert "out of luck" in outcome.report.read_text(encoding="utf-8")
    assert (outcome.report.parent / "tool.log").read_text(encoding="utf-8") == "a log"
    assert list(bench.repository.glob(".staging/*")) == []


def test_texts_of_ones_own(bench: DecoderBench, tmp_path: Path) -> None:
    text = tmp_path / "own.txt"
    text.write_text("the ship carries the cars over the river and back again, " * 40, encoding="utf-8")
    outcome = bench.run(wish=replace(WISH, text=text, candidates=()))
    assert outcome.story is not None
    assert outcome.story.climbed.reference.endswith("texts of 128 tokens, from own.txt")
    text.write_text("short", encoding="utf-8")
    with pytest.raises(OptimizeError, match=r"own.txt: has \d+ tokens; to compare on it, at least 127 are needed"):
        bench.run(wish=replace(WISH, text=text, candidates=()))
    with pytest.raises(OptimizeError, match=r"none.txt: no such file; give a UTF-8 text"):
        bench.run(wish=replace(WISH, text=tmp_path / "none.txt"))


def test_says_what_is_missing(bench: DecoderBench, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        OptimizeError, match=r"model 'tiny' is new in .*: say how soon its first token must come, like --slo 500ms"
    ):
        bench.run(slo_s=None)
    with pytest.raises(ContractError, match="model name 'a b' is not allowed"):
        bench.run(name="a b")
    monkeypatch.setattr(job, "_TOOLS", ["nobody-has-this"])
    with pytest.raises(OptimizeError, match=r"nobody-has-this is not installed; .*: pip install 'ferry-serving\[decoder\]'"):
        bench.run()
