"""Finalists in turns: a machine that changes its pace changes no ratio, and profiles are put on one pace."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from optimizer.ladder.candidate import PLAIN
from optimizer.ladder.decide import Standing, close_ones, decide
from optimizer.ladder.duel import N_ROUNDS, Duel, DuelTask, Rival, Size, at_pace, duel_sizes, paces, speeds, take_turns
from optimizer.ladder.subject import Subject
from optimizer.options import Options
from server.backends.onnx_runtime import OnnxRuntimeBackend
from server.contract.device import Device
from server.contract.profile import Cell, Placement, Profile
from server.intake.measure import Effort
from tests import models
from tests.optimizer.ladder.test_decide import named

SIZES = (Size(1, 0), Size(4, 0))
DEVICE = Device("cpu", 2, "runtime 1")


class Machine:
    """Virtual time on a machine whose pace depends on the time."""

    def __init__(self, pace: Callable[[float], float]) -> None:
        self.at, self.pace = 0.0, pace
        self.order: list[str] = []

    def spend(self, who: str, seconds: float) -> float:
        taken = seconds * self.pace(self.at)
        self.at += taken
        self.order.append(who)
        return taken

    def profile(self, row_s: float) -> Profile:
        """As intake would take one now."""
        cells = []
        for rows in (1, 2, 4):
            taken = self.spend("profile", rows * row_s)
            cells.append(Cell(rows, 0, taken, taken, taken, 9, 0))
        return Profile(DEVICE, Placement(1, 1), tuple(cells))


class Runner:
    """A rival that takes `row_s` for a row on a machine of usual pace."""

    def __init__(self, machine: Machine, name: str, row_s: float) -> None:
        self.machine, self.name, self.row_s = machine, name, row_s

    def time(self, size: Size) -> float:
        return self.machine.spend(self.name, size.rows * self.row_s)


def silent(_what: str, done: int, total: int) -> None:
    assert 0 <= done < total


def test_the_order_is_reversed_in_every_other_round() -> None:
    machine = Machine(lambda _: 1.0)
    rounds = take_turns([Runner(machine, "a", 1.0), Runner(machine, "b", 2.0)], SIZES, silent)
    assert machine.order[:8] == ["a", "b", "a", "b", "b", "a", "b", "a"]
    assert rounds == [[[1.0] * N_ROUNDS, [4.0] * N_ROUNDS], [[2.0] * N_ROUNDS, [8.0] * N_ROUNDS]]
    assert speeds(rounds) == [1, 0.5]


def test_drift_and_a_disturbance_change_no_ratio() -> None:
    drifting = Machine(lambda at: 1.0 + at / 100)
    rounds = take_turns([Runner(drifting, "a", 1.0), Runner(drifting, "b", 1.25)], SIZES, silent)
    assert drifting.pace(drifting.at) > 1.7, "it became much slower meanwhile"
    assert speeds(rounds)[1] == pytest.approx(0.8, rel=0.03)
    disturbed = Machine(lambda at: 5.0 if 20 < at < 40 else 1.0)
    rounds = take_turns([Runner(disturbed, "a", 1.0), Runner(disturbed, "b", 1.25)], SIZES, silent)
    assert speeds(rounds)[1] == pytest.approx(0.8)


def test_what_the_drift_between_profiles_would_have_decided_wrongly_is_put_right() -> None:
    """The better one had its profile taken while the machine was slow."""
    machine = Machine(lambda at: 1.0 if at < 0.01 else 1.3)
    plain, better = machine.profile(0.002), machine.profile(0.0016)
    standings = [Standing(PLAIN, plain, 100), Standing(named("better"), better, 100)]
    assert decide(standings, 0.1, 4).winner == PLAIN.name
    assert close_ones(standings, 0.1, 4) == [PLAIN.name, "better"]
    rounds = take_turns([Runner(machine, "plain", 0.002), Runner(machine, "better", 0.0016)], SIZES, silent)
    found = paces([plain, better], rounds, SIZES)
    assert found == [1, pytest.approx(1 / 1.3, rel=0.01)]
    duel = Duel("", {}, {PLAIN.name: found[0], "better": found[1]})
    again = [Standing(one.candidate, duel.on_one_pace(one.candidate.name, one.profile), 100) for one in standings]
    assert decide(again, 0.1, 4).winner == "better"
    assert duel.on_one_pace("another", plain) is plain


def test_a_pace_changes_all_times() -> None:
    cell = Cell(1, 0, 1.0, 2.0, 3.0, 9, 7)
    (found,) = at_pace(Profile(DEVICE, Placement(1, 1), (cell,)), 0.5).cells
    assert found == Cell(1, 0, 0.5, 1.0, 1.5, 9, 7)


def test_sizes_are_few() -> None:
    assert duel_sizes(64, (0,)) == (Size(1, 0), Size(4, 0), Size(16, 0))
    assert duel_sizes(3, (2, 8, 16, 32)) == (Size(1, 16), Size(3, 16), Size(1, 2), Size(1, 32))


def test_real_files_in_turns(tmp_path: Path) -> None:
    """In one process; each rival from its own file."""
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder, gain in zip(folders, (2.0, 3.0), strict=True):
        folder.mkdir()
        (folder / "model.onnx").write_bytes(models.affine(gain))
    backend = OnnxRuntimeBackend()
    options = Options(max_rows=4, effort=Effort(0.0, 1, 1))
    subject = Subject("tiny", folders[0], "", backend, None, None, "", frozenset(), options)
    rivals = tuple(Rival(folder / "model.onnx", backend, Placement(n, 1)) for n, folder in enumerate(folders, 1))
    out = tmp_path / "task" / "out"
    out.mkdir(parents=True)
    seconds = DuelTask(subject, rivals, SIZES)(out, silent).data["seconds"]
    assert [[len(rounds) for rounds in by_size] for by_size in seconds] == [[N_ROUNDS] * 2] * 2
    assert all(value > 0 for by_size in seconds for rounds in by_size for value in rounds)
