"""Measuring with a clock that stands still except where the fake model moves it: exact figures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pytest

from server.backends.base import Array, BatchError
from server.contract.accelerator import Accelerator
from server.contract.device import Device
from server.contract.profile import Placement
from server.contract.profiles import Profiles
from server.intake import measure
from server.intake.measure import Contender, Effort, grid_lengths, grid_rows, measure_placements
from server.intake.samples import made_up_samples
from tests.server.intake.fakes import IDS, MASK, MEAN, FakeSession, FakeTimer, doubled, masked_mean

DEVICE = Device("A chip", 2, "fake 1")
EFFORT = Effort(cell_s=1.0, n_least=3, n_most=10)


@pytest.fixture
def timer(monkeypatch: pytest.MonkeyPatch) -> FakeTimer:
    timer = FakeTimer()
    monkeypatch.setattr(measure, "now", timer)
    return timer


def taking(timer: FakeTimer, alpha_s: float, beta_s: float) -> FakeSession:
    """A model whose run takes beta + alpha · rows on the test's clock."""

    def run(inputs: Mapping[str, Array]) -> list[Array]:
        timer.now_s += beta_s + alpha_s * len(inputs["x"])
        return doubled(inputs)

    return FakeSession(run)


@pytest.mark.parametrize(
    ("max_rows", "rows"),
    [(1, (1,)), (2, (1, 2)), (3, (1, 2, 3)), (48, (1, 2, 4, 8, 16, 32, 48)), (64, (1, 2, 4, 8, 16, 32, 64))],
)
def test_grid_rows(max_rows: int, rows: tuple[int, ...]) -> None:
    assert grid_rows(max_rows) == rows


@pytest.mark.parametrize(
    ("ends", "lengths"),
    [
        ((1, 1), (1,)),
        ((3, 256), (3, 8, 16, 32, 64, 128, 256)),
        ((1, 7), (1, 7)),
        ((8, 9), (8, 9)),
        ((10, 100), (10, 16, 32, 64, 100)),
    ],
)
def test_grid_lengths(ends: tuple[int, int], lengths: tuple[int, ...]) -> None:
    assert grid_lengths(*ends) == lengths


def measured(session: FakeSession, rows: tuple[int, ...], lengths: tuple[int, ...], effort: Effort, cores: int = 1) -> Profiles:
    """With one core there is one candidate; with more, `session` serves all of them."""
    device = replace(DEVICE, cores=cores)
    samples = made_up_samples(session.signature, lengths[-1])
    return measure_placements(lambda _: session, device, samples, rows, lengths, lambda *_: None, effort)


def test_a_profile_of_exact_times(timer: FakeTimer) -> None:
    session = taking(timer, 0.01, 0.1)
    seen: list[tuple[str, int, int]] = []
    samples = made_up_samples(session.signature, 0)
    device = replace(DEVICE, cores=1)
    profiles = measure_placements(lambda _: session, device, samples, (1, 4), (0,), lambda *step: seen.append(step), EFFORT)
    (profile,) = profiles.profiles
    assert (profile.device, profile.placement) == (device, Placement(1, 1))
    assert [(cell.rows, cell.length, round(cell.p50_s, 9), cell.samples) for cell in profile.cells] == [
        (1, 0, 0.11, 10), (4, 0, 0.14, 9),
    ]  # fmt: skip
    assert all(math.isclose(cell.p50_s, cell.p99_s) and cell.memory_bytes >= 0 for cell in profile.cells)
    rounds = [("comparing placements", n, 3) for n in range(3)]
    assert seen == rounds + [(f"{rows} rows", n, 6) for n, rows in enumerate((1, 4) * 3)]
    assert session.is_closed


def test_a_slow_model_is_run_a_few_times_all_the_same(timer: FakeTimer) -> None:
    session = taking(timer, 0.0, 60.0)
    (profile,) = measured(session, (1,), (0,), EFFORT).profiles
    assert profile.cells[0].samples == 3
    assert session.n_runs == 4 + 4, "one to warm up, for the comparison and for the profile"


def test_progress_names_the_length(timer: FakeTimer) -> None:
    def run(inputs: Mapping[str, Array]) -> list[Array]:
        timer.now_s += 1
        return masked_mean(inputs)

    session = FakeSession(run, [IDS, MASK], [MEAN])
    seen: list[str] = []
    samples = made_up_samples(session.signature, 8)
    device = replace(DEVICE, cores=1)
    measure_placements(lambda _: session, device, samples, (1,), (2, 8), lambda what, *_: seen.append(what), EFFORT)
    assert seen[3:] == ["1 rows of length 2", "1 rows of length 8"] * 3


def test_all_instances_are_busy_at_once_and_their_times_are_joined() -> None:
    session = FakeSession(doubled)
    contender = Contender(Placement(3, 1), session)
    batch = made_up_samples(session.signature, 0).batch(1, 0)
    while contender.measure(batch, 1, 0, Effort(0.0, 6, 2)):
        pass
    assert contender.cell(1, 0).samples == 6
    assert session.n_runs == 7, "one to warm up"


def test_an_error_in_any_instance_is_raised() -> None:
    calls = iter(range(100))

    def sometimes(inputs: Mapping[str, Array]) -> list[Array]:
        if next(calls) > 1:
            raise BatchError("boom")
        return doubled(inputs)

    session = FakeSession(sometimes)
    batch = made_up_samples(session.signature, 0).batch(1, 0)
    with pytest.raises(BatchError, match="boom"):
        Contender(Placement(2, 1), session).measure(batch, 1, 0, Effort(0.0, 2, 2))


def test_what_disturbs_the_machine_for_a_while_changes_no_median(timer: FakeTimer) -> None:
    """Ten times slower during the second of the three rounds: every size has most of its samples from the others."""
    n_batches = {"slow": False}

    def run(inputs: Mapping[str, Array]) -> list[Array]:
        timer.now_s += 0.1 * (10 if n_batches["slow"] else 1)
        return doubled(inputs)

    def progress(_what: str, done: int, of: int) -> None:
        n_batches["slow"] = of == 3 * 2 and 2 <= done < 4

    session = FakeSession(run)
    samples = made_up_samples(session.signature, 0)
    device = replace(DEVICE, cores=1)
    profiles = measure_placements(lambda _: session, device, samples, (1, 2), (0,), progress, Effort(0.9, 3, 400))
    assert [round(cell.p50_s, 9) for cell in profiles.profiles[0].cells] == [0.1, 0.1]


@dataclass
class Machine:
    """Four cores on which a model takes so many seconds for one row: on one thread, on four, and beside three others."""

    timer: FakeTimer
    alone_s: float
    wide_s: float
    beside_s: float
    sessions: list[FakeSession] = field(default_factory=list)

    def load(self, threads: int) -> FakeSession:
        self.sessions.append(FakeSession(doubled))
        self.sessions[-1].threads = threads
        return self.sessions[-1]

    def times(
        self, session: FakeSession, instances: int, batch: Mapping[str, Array], effort: Effort, warm_up: bool
    ) -> list[float]:
        takes_s = self.wide_s if session.threads > 1 else self.beside_s if instances > 1 else self.alone_s
        self.timer.now_s += effort.n_least * takes_s * len(batch["x"])
        return [takes_s * len(batch["x"])] * effort.n_least * instances


@pytest.mark.parametrize(
    ("alone_s", "wide_s", "beside_s", "kept"),
    [
        (4.0, 1.2, 4.4, ["4x1", "1x4"]),  # the usual: one is quicker, the other has the higher rate
        (4.0, 3.0, 10.0, ["4x1", "1x4"]),
        (4.0, 0.9, 4.4, ["1x4"]),  # beats both
        (4.0, 4.2, 4.1, ["4x1"]),  # threads are worth nothing to it, so nothing is lost by more instances
        (4.0, 5.0, 17.0, ["1x1"]),  # nor are instances
        (1e-5, 1e-6, 1e-5, ["1x1"]),  # it outruns the front end as it is
        (2e-5, 1e-5, 2e-5, ["1x4"]),
    ],
)
def test_placements_that_may_be_the_best_for_some_slo_are_measured(
    alone_s: float, wide_s: float, beside_s: float, kept: list[str], timer: FakeTimer, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(timer, alone_s, wide_s, beside_s)
    monkeypatch.setattr(measure, "time_batches", machine.times)
    samples = made_up_samples(FakeSession(doubled).signature, 0)
    device = replace(DEVICE, cores=4)
    profiles = measure_placements(machine.load, device, samples, (1, 2), (0,), lambda *_: None, EFFORT)
    assert [str(one.placement) for one in profiles.profiles] == kept
    assert len(machine.sessions) == 2, "instances share a session"
    assert all(session.is_closed for session in machine.sessions)


def test_two_placements_take_little_longer_than_one(timer: FakeTimer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time that a machine is busy with it, where most batches take longer than what is allotted to a size."""

    def busy_s(wide_s: float) -> float:
        began_s = timer.now_s
        machine = Machine(timer, 1.0, wide_s, 1.05)
        monkeypatch.setattr(measure, "time_batches", machine.times)
        samples = made_up_samples(FakeSession(doubled).signature, 0)
        profiles = measure_placements(machine.load, DEVICE, samples, (1, 2, 4, 8), (0,), lambda *_: None, Effort())
        assert len(profiles.profiles) == (2 if wide_s < 0.9 else 1)
        return timer.now_s - began_s

    assert busy_s(0.6) < 1.5 * busy_s(1.0)


def test_on_a_card_there_may_be_two_batches_in_flight_whatever_the_cores(timer: FakeTimer) -> None:
    session = taking(timer, 0.0, 0.1)
    device = replace(DEVICE, cores=16, accelerator=Accelerator("A card", "9.0", "570.1", "12.8"))
    asked = []
    samples = made_up_samples(session.signature, 0)

    def load(threads: int) -> FakeSession:
        asked.append(threads)
        return session

    profiles = measure_placements(load, device, samples, (1,), (0,), lambda *_: None, EFFORT)
    assert asked == [1]
    assert {one.placement for one in profiles.profiles} <= {Placement(1, 1), Placement(2, 1)}


def test_on_a_card_memory_is_what_was_taken_there_since_before_the_model_was_loaded(timer: FakeTimer) -> None:
    taken = [700]

    def run(inputs: Mapping[str, Array]) -> list[Array]:
        timer.now_s += 0.1
        taken[0] = max(taken[0], 1700 + len(inputs["x"]))
        return doubled(inputs)

    def load(_: int) -> FakeSession:
        taken[0] += 1000
        return FakeSession(run)

    samples = made_up_samples(FakeSession(doubled).signature, 0)
    device = replace(DEVICE, accelerator=Accelerator("A card", "9.0", "570.1", "12.8"))
    profiles = measure_placements(load, device, samples, (1, 4), (0,), lambda *_: None, EFFORT, lambda: taken[0])
    for one in profiles.profiles:
        assert [cell.memory_bytes for cell in one.cells] == [1004, 1004], "the comparison of placements ran the largest batch"


def test_on_one_core_there_is_one_candidate(timer: FakeTimer) -> None:
    profiles = measured(taking(timer, 0.01, 0.1), (1, 4), (0,), EFFORT)
    assert [one.placement for one in profiles.profiles] == [Placement(1, 1)]


def test_sessions_are_closed_when_the_model_fails() -> None:
    def fail(_: Mapping[str, Array]) -> list[Array]:
        raise BatchError("boom")

    session = FakeSession(fail)
    with pytest.raises(BatchError):
        measured(session, (4,), (0,), EFFORT, cores=2)
    assert session.is_closed


def test_rate_counts_the_rows_of_all_instances(timer: FakeTimer) -> None:
    contender = Contender(Placement(2, 1), taking(timer, 0.0, 0.5), {(8, 0): [0.5, 0.4, 9.0]})
    assert contender.rate(8, 0) == 32
