"""Other generators are programs that are told to run by line; one that cannot come up says why."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from loadtests.generation.programs import CannotRun, Generator, Program
from loadtests.generation.work import Work

ECHO = Generator("echo", "tests.loadtests.generation.echo_generator", "checkpoint")
WORK = Work([[9, 10], [11]], [3, 1])


def test_a_program_runs_as_often_as_it_is_told() -> None:
    with Program(Path(sys.executable), ECHO, Path("here"), WORK, 2, 1) as program:
        for _ in range(2):
            seconds, answers = program.run()
            assert answers == [[9, 9, 9], [11]]
            assert seconds >= 0


def test_a_program_that_fails_says_why() -> None:
    with pytest.raises(CannotRun, match="no checkpoint at nowhere"):
        Program(Path(sys.executable), ECHO, Path("nowhere"), WORK, 2, 1)
