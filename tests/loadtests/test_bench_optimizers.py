"""The comparison of optimizers without measuring: its options, its turns, its refusals."""

from __future__ import annotations

import pytest

from loadtests.bench_optimizers import main, parse, turn


def test_defaults() -> None:
    options = parse([])
    assert (options.models, options.tools, options.prepare) == ("digits,resnet18,minilm", "olive,optimum", False)
    assert (str(options.plain), str(options.venvs)) == (".ferry-cache/plain", ".venv-peers")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--tools", "olive,abacus"], "--tools abacus: known are olive, optimum"),
        (["--models", "abacus"], "--models abacus: known are digits, resnet18, minilm"),
    ],
)
def test_what_is_unknown_is_named_before_anything_is_installed(
    flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(flags) == 1
    assert capsys.readouterr().err == f"bench-optimizers: {message}\n"


def test_each_turn_begins_with_another_version() -> None:
    assert [turn(["a", "b", "c"], n) for n in range(4)] == [["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"], ["a", "b", "c"]]
