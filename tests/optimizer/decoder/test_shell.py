"""The command with a checkpoint folder: what it prints, its exit status, and which flags it takes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from optimizer import shell
from optimizer.cli import main
from tests.optimizer.bench import LINEAR
from tests.optimizer.decoder.bench import WISH, DecoderBench


@pytest.fixture
def flags(bench: DecoderBench, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    def quick(**wished: Any) -> object:
        return replace(WISH, **wished)

    monkeypatch.setattr(shell, "Wish", quick)
    places = ["--repository", str(bench.repository), "--cache", str(bench.cache)]
    return [str(bench.checkpoint), *places, "--lengths", "1:128"]


def test_a_checkpoint_is_published_and_then_unchanged(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*flags, "--slo", "500ms", "--gap", "10s", "--max-loss", "900"]) == 0
    said = capsys.readouterr().out
    assert "published version 1 of tiny" in said
    assert "tiny was published as " in said
    assert "each after    within 10s" in said
    assert "chat          by the checkpoint's template" in said
    assert main([*flags, "--max-loss", "900"]) == 0
    assert "unchanged: version 1 of tiny comes from the same checkpoint" in capsys.readouterr().out


def test_a_rejected_one_says_where_and_ends_with_1(
    flags: list[str], bench: DecoderBench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("optimizer.decoder.trial._SAME_KL", -1.0)
    assert main([*flags, "--slo", "500ms"]) == 1
    said = capsys.readouterr().out
    assert "not published: tiny failed at answers" in said
    assert "KL divergence from the original" in said
    assert bench.live == []


@pytest.mark.parametrize("flag", [("--pad", "x=0"), ("--embedding", "y"), ("--tokenizer", "t.json")])
def test_flags_that_mean_nothing_for_it_are_refused(
    flag: tuple[str, str], flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*flags, "--slo", "500ms", *flag]) == 2
    assert f"{flag[0]} is not for checkpoint folders, and {flags[0]} is one; leave it out" in capsys.readouterr().err


def test_a_recipe_says_what_is_tried_and_what_must_be_kept(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('candidates = ["int8"]\n[gates]\nmin_top1 = 1\nmax_rise = 0\n')
    assert main([*flags, "--slo", "500ms", "--gap", "10s", "--recipe", str(recipe)]) == 0
    said = capsys.readouterr().out
    assert "tiny was published as fp32" in said
    assert "places, wanted are 100%" in said
    assert "int4" not in said


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('candidates = ["int3"]', "field 'candidates' knows int8 and int4, found 'int3'; the plain export is always tried"),
        ("candidates = [[1]]", "found [1]"),
        ("candidates = []", "must name at least one"),
        ("[gates]\nmin_top1 = 85", "'min_top1' must be a share of 1; write one like 0.85, found 85"),
        ("[gates]\nmin_cosine = 0.9", "min_cosine"),
        ('[limits]\ntime = "soon"', "time"),
    ],
)
def test_a_recipe_that_says_something_else_is_refused(
    text: str, why: str, flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(text)
    assert main([*flags, "--slo", "500ms", "--recipe", str(recipe)]) == 2
    said = capsys.readouterr().err
    assert str(recipe) in said
    assert why in said


def test_a_recipe_and_none_at_all_exclude_each_other(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*flags, "--slo", "500ms", "--plain", "--recipe", "r.toml"]) == 2
    assert "give one of the two" in capsys.readouterr().err


@pytest.mark.parametrize("flag", [("--gap", "50ms"), ("--text", "t.txt")])
def test_flags_of_decoders_are_refused_for_others(
    flag: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model.py").write_text(LINEAR, encoding="utf-8")
    assert main([str(tmp_path / "model.py"), "--slo", "20ms", "--repository", str(tmp_path), *flag]) == 2
    assert "--gap and --text are for checkpoint folders of decoders" in capsys.readouterr().err


def test_a_folder_that_is_no_checkpoint_is_told_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "--slo", "500ms", "--repository", str(tmp_path / "r")]) == 2
    assert "config.json: missing; give a folder as save_pretrained of transformers writes it" in capsys.readouterr().err
