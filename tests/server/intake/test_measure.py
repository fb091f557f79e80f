"""Measuring with a clock that stands still except where the fake model moves it: exact figures."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest

from server.backends.base import Array, BatchError
from server.contract.device import Device
from server.contract.profile import Placement
from server.intake import measure
from server.intake.measure import Effort, choose_placement, grid_lengths, grid_rows, measure_profile
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


def test_a_profile_of_exact_times(timer: FakeTimer) -> None:
    session = taking(timer, 0.01, 0.1)
    seen: list[tuple[str, int, int]] = []
    profile = measure_profile(
        session,
        Placement(1, 2),
        DEVICE,
        made_up_samples(session.signature, 0),
        (1, 4),
        (0,),
        lambda *step: seen.append(step),
        EFFORT,
    )
    assert (profile.device, profile.placement) == (DEVICE, Placement(1, 2))
    assert [(cell.rows, cell.length, round(cell.p50_s, 9), cell.samples) for cell in profile.cells] == [
        (1, 0, 0.11, 10), (4, 0, 0.14, 8),
    ]  # fmt: skip
    assert all(math.isclose(cell.p50_s, cell.p99_s) and cell.memory_bytes >= 0 for cell in profile.cells)
    assert seen == [("1 rows", 0, 2), ("4 rows", 1, 2)]


def test_a_slow_model_is_run_a_few_times_all_the_same(timer: FakeTimer) -> None:
    session = taking(timer, 0.0, 60.0)
    profile = measure_profile(
        session, Placement(1, 1), DEVICE, made_up_samples(session.signature, 0), (1,), (0,), lambda *_: None, EFFORT
    )
    assert profile.cells[0].samples == 3
    assert session.n_runs == 4, "one to warm up"


def test_progress_names_the_length(timer: FakeTimer) -> None:
    def run(inputs: Mapping[str, Array]) -> list[Array]:
        timer.now_s += 1
        return masked_mean(inputs)

    session = FakeSession(run, [IDS, MASK], [MEAN])
    seen: list[str] = []
    samples = made_up_samples(session.signature, 8)
    measure_profile(session, Placement(1, 1), DEVICE, samples, (1,), (2, 8), lambda what, *_: seen.append(what), EFFORT)
    assert seen == ["1 rows of length 2", "1 rows of length 8"]


def test_all_instances_are_busy_at_once_and_their_times_are_joined() -> None:
    session = FakeSession(doubled)
    profile = measure_profile(
        session, Placement(3, 1), DEVICE, made_up_samples(session.signature, 0), (1,), (0,), lambda *_: None, Effort(0.0, 2, 2)
    )
    assert profile.cells[0].samples == 6
    assert session.n_runs == 7


def test_an_error_in_any_instance_is_raised() -> None:
    calls = iter(range(100))

    def sometimes(inputs: Mapping[str, Array]) -> list[Array]:
        if next(calls) > 1:
            raise BatchError("boom")
        return doubled(inputs)

    session = FakeSession(sometimes)
    with pytest.raises(BatchError, match="boom"):
        measure_profile(
            session,
            Placement(2, 1),
            DEVICE,
            made_up_samples(session.signature, 0),
            (1,),
            (0,),
            lambda *_: None,
            Effort(0.0, 2, 2),
        )


@pytest.mark.parametrize(
    ("rates", "chosen"),
    [
        ({"1x1": 100, "1x4": 300, "4x1": 200}, "1x4"),
        ({"1x1": 100, "1x4": 90, "4x1": 350}, "4x1"),
        ({"1x1": 100, "1x4": 100, "4x1": 100}, "1x1"),
        ({"1x1": 70_000, "1x4": 900_000, "4x1": 900_000}, "1x1"),
        ({"1x1": 10_000, "1x4": 61_000, "4x1": 900_000}, "1x4"),
    ],
)
def test_the_placement_with_the_highest_rate_until_the_front_end_is_the_limit(
    rates: dict[str, int], chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions: list[FakeSession] = []

    def load(_threads: int) -> FakeSession:
        sessions.append(FakeSession(doubled))
        return sessions[-1]

    monkeypatch.setattr(measure, "_rate", lambda _session, placement, batch: rates[str(placement)] * len(batch["x"]) / 16)
    samples = made_up_samples(FakeSession(doubled).signature, 0)
    placement = choose_placement(load, samples, 16, (0,), 4, lambda *_: None)
    assert str(placement) == chosen
    assert all(session.is_closed for session in sessions)


def test_on_one_core_there_is_one_candidate(timer: FakeTimer) -> None:
    seen: list[str] = []
    session = taking(timer, 0.01, 0.1)
    placement = choose_placement(
        lambda _: session, made_up_samples(session.signature, 0), 4, (0,), 1, lambda what, *_: seen.append(what)
    )
    assert placement == Placement(1, 1)
    assert seen == ["placement 1x1"]


def test_a_session_is_closed_when_the_model_fails() -> None:
    def fail(_: Mapping[str, Array]) -> list[Array]:
        raise BatchError("boom")

    session = FakeSession(fail)
    with pytest.raises(BatchError):
        choose_placement(lambda _: session, made_up_samples(session.signature, 0), 4, (0,), 1, lambda *_: None)
    assert session.is_closed


def test_rate_counts_the_rows_of_all_instances(timer: FakeTimer) -> None:
    session = taking(timer, 0.0, 0.5)
    assert measure._rate(session, Placement(1, 1), {"x": np.ones((8, 4), np.float32)}) == 16
