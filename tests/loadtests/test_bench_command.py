from __future__ import annotations

import signal

import pytest

from loadtests.bench_command import Flags, as_program, status
from loadtests.errors import BadInput
from loadtests.flags import count, names_of


def flags() -> Flags:
    found = Flags("loadtests.bench_nothing", "Measures nothing.")
    found.add("--rounds", "rounds", 5, count)
    found.add("--models", "what is served", "a,b", names_of(["a", "b"]))
    found.switch("--prepare", "measure nothing")
    return found


def test_options_have_their_defaults_and_what_is_typed() -> None:
    assert flags().read([]) == {"rounds": 5, "models": "a,b", "prepare": False}
    assert flags().read(["--rounds", "2", "--models", "b", "--prepare"]) == {"rounds": 2, "models": "b", "prepare": True}


def test_quick_sets_its_options_and_is_none_itself() -> None:
    found = flags()
    found.add_quick({"rounds": 1})
    assert found.read([]) == {"rounds": 5, "models": "a,b", "prepare": False}
    assert found.read(["--quick", "--rounds", "9"]) == {"rounds": 1, "models": "a,b", "prepare": False}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--rounds", "0"], "not a whole number from 1 on"),
        (["--models", "a,c"], "c is not known; known are a, b"),
        (["--round", "2"], "unrecognized arguments"),
    ],
)
def test_a_wrong_command_line_ends_with_2_and_the_usage(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        flags().read(words)
    assert caught.value.code == 2
    printed = capsys.readouterr().err
    assert told in printed
    assert "usage: python -m loadtests.bench_nothing" in printed


def test_the_help_tells_every_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        flags().read(["--help"])
    assert "rounds (default: 5)" in capsys.readouterr().out


def test_a_run_ends_with_0_1_or_130(capsys: pytest.CaptureFixture[str]) -> None:
    def fails() -> None:
        raise BadInput("no such model")

    def interrupted() -> None:
        raise KeyboardInterrupt

    assert status("bench", lambda: "whatever it returns") == 0
    assert capsys.readouterr().err == ""
    assert status("bench", fails) == 1
    assert capsys.readouterr().err == "bench: no such model\n"
    assert status("bench", interrupted) == 130


def test_a_program_is_ended_by_sigterm_as_by_an_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    set_handlers: list[tuple[object, object]] = []
    monkeypatch.setattr(signal, "signal", lambda number, handler: set_handlers.append((number, handler)))
    with pytest.raises(SystemExit) as caught:
        as_program(lambda: 3)
    assert caught.value.code == 3
    assert set_handlers == [(signal.SIGTERM, signal.default_int_handler)]
