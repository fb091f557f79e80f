from __future__ import annotations

import io

from rich.console import Console

from loadtests.generators import Tick
from loadtests.progress import Progress


def feed(console: Console) -> Progress:
    with Progress(1000, 10.0, console) as progress:
        for at in range(1, 8):
            for generator in (0, 1):
                progress(Tick(generator, at / 2, [0.01, 0.02], 50 * at, 60 * at, 10 * at))
    return progress


def test_the_line_adds_up_all_generators() -> None:
    line = feed(Console(file=io.StringIO(), width=200)).line()
    assert "200 answers/s" in line
    assert "p50    15.00 ms" in line
    assert "lost 140" in line
    assert "done 840 of 1,000" in line


def test_a_terminal_gets_one_moving_line_and_a_file_some_plain_ones() -> None:
    plain, moving = io.StringIO(), io.StringIO()
    feed(Console(file=plain, width=200))
    feed(Console(file=moving, width=200, force_terminal=True))
    assert plain.getvalue().count("\n") == 1
    assert "\x1b" not in plain.getvalue()
    assert "\x1b" in moving.getvalue()
