from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loadtests.errors import LoadTestError, MissingData
from loadtests.peers import models, visits
from loadtests.peers.fastapi import FASTAPI
from loadtests.peers.peer import Launch, Tuning, Visit
from loadtests.peers.servers.setup import OnnxModel, Setup
from loadtests.peers.triton import TRITON
from loadtests.peers.visits import Plan, Siege, besieged, difference, measured, trial
from tests.loadtests.peers.example import doubling

PLAN = Plan(0.05, 0.05, 0.2, 4, {"digits": 0.05}, {"digits"})
PYTHON = Path(sys.executable)


def test_the_naive_endpoint_is_started_checked_measured_and_stopped(tmp_path: Path) -> None:
    model, _ = doubling(tmp_path)
    found = measured(FASTAPI, model, Tuning(), PYTHON, PLAN, 0)
    assert found["difference"] == 0.0
    assert found["cold_start_s"] > 0
    assert found["memory"]["rss"] > 0
    assert set(found["lanes"]) == {"JSON", "JSON, alone"}
    assert all(lane["n_answered"] > 0 and not lane["n_failed"] for lane in found["lanes"].values())
    assert list(found["overload"]) == ["0.8", "1.5"]
    for load in found["overload"].values():
        ends = sum(load[name] for name in ("in_slo", "late", "refused", "failed", "timed_out"))
        assert ends == load["scheduled"] > 0


def test_a_trial_gives_a_rate(tmp_path: Path) -> None:
    model, _ = doubling(tmp_path)
    assert trial(FASTAPI, model, Tuning(), PYTHON, PLAN) > 0


def test_a_server_is_besieged_at_a_multiple_of_what_it_reaches_itself_or_of_what_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(visits, "_WARM_UP_S", 0.05)
    model, _ = doubling(tmp_path)
    siege = Siege(0.05, 1.5, connections=4, open_s=0.2, calm_slo_s=1.0, loop_s=0.05)
    found = besieged(FASTAPI, model, Tuning(), PYTHON, siege, 0)
    assert found["overload"]["offered_per_s"] == 1.5 * found["own_per_s"] > 0
    found = besieged(FASTAPI, model, Tuning(), PYTHON, replace(siege, loop_s=0.0, own_per_s=100.0), 0)
    assert (found["own_per_s"], found["overload"]["offered_per_s"]) == (100.0, 150.0)


def test_a_maximum_is_found_without_bounds_and_within_an_objective_that_can_be_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(visits, "_WARM_UP_S", 0.05)
    model, _ = doubling(tmp_path)
    told: list[tuple[int, float, float | None]] = []

    def launch(visit: Visit) -> Launch:
        told.append((visit.tuning.queue, visit.tuning.timeout_ms, visit.slo_s))
        return FASTAPI.launch(visit)

    siege = Siege(0.05, 1.5, connections=4, open_s=0.2, calm_slo_s=1.0, loop_s=0.05)
    besieged(replace(FASTAPI, launch=launch), model, Tuning(queue=3, timeout_ms=15.0), PYTHON, siege, 0)
    assert told == [(0, 0.0, 1.0), (3, 15.0, 0.05)]


def test_an_objective_for_those_who_wait_has_room_for_all_of_them() -> None:
    assert visits.patient_slo_s(64, 160.0) == 1.2


def test_who_answers_wrongly_is_not_measured(tmp_path: Path) -> None:
    model, _ = doubling(tmp_path)
    wrong = replace(model, expected=[{"y": one["y"] + 0.01} for one in model.expected])
    with pytest.raises(LoadTestError, match=r"wrong answers: 0\.01 away"):
        measured(FASTAPI, wrong, Tuning(), PYTHON, PLAN, 0)


def test_shared_memory_that_is_left_goes_with_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = doubling(tmp_path / "models")
    (tmp_path / "mine-1").touch()
    (tmp_path / "other").touch()
    monkeypatch.setattr(visits, "_SHARED_MEMORY", tmp_path)
    peer = replace(FASTAPI, launch=lambda visit: replace(FASTAPI.launch(visit), shared_memory="mine-"))
    trial(peer, model, Tuning(), PYTHON, PLAN)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["models", "other"]


def test_a_package_that_is_laid_out_otherwise_is_told(tmp_path: Path) -> None:
    model, _ = doubling(tmp_path)
    with pytest.raises(LoadTestError, match=r"Triton .* is not laid out as expected: .*pytriton"):
        trial(TRITON, model, Tuning(), tmp_path / "bin" / "python", PLAN)


@pytest.mark.parametrize(
    ("found", "match"),
    [
        ({"y": np.zeros((1, 3))}, "was expected"),
        ({"z": np.zeros((1, 2))}, "was expected"),
        ({"y": np.full((1, 2), np.nan)}, "wrong answers: inf"),
        ({"y": np.array([[0, 100.1]])}, "wrong answers"),
    ],
)
def test_other_shapes_and_values_are_wrong(found: Mapping[str, Any], match: str) -> None:
    with pytest.raises(LoadTestError, match=match):
        difference(found, {"y": np.array([[0.0, 100.0]])})


def test_large_values_may_differ_in_proportion() -> None:
    assert difference({"y": np.array([[100.005]])}, {"y": np.array([[100.0]])}) == pytest.approx(5e-5)


def test_requests_of_several_rows_are_joined_and_dealt_out_again(tmp_path: Path) -> None:
    model, _ = doubling(tmp_path)
    setup = Setup(
        str(model.file), "127.0.0.1", 0, max_batch=2, wait_ms=0.0, workers=1, threads=1, queue=0, timeout_ms=0.0, n_rows=2
    )
    pair, one = np.full((2, 64), 1.5, np.float32), np.full((1, 64), 3.0, np.float32)
    found = OnnxModel(setup).run_many([{"x": pair}, {"x": one}])
    assert [answer["y"].tolist() for answer in found] == [(2 * pair).tolist(), (2 * one).tolist()]


def test_rows_become_requests_of_several_rows_if_they_are_alike() -> None:
    rows = [{"x": np.full((1, 4), n, np.float32)} for n in range(5)]
    assert [one["x"][:, 0].tolist() for one in models.joined(rows, 2)] == [[0.0, 1.0], [2.0, 3.0]]
    assert models.joined(rows, 1) == rows
    with pytest.raises(MissingData, match="rows of different lengths"):
        models.joined([*rows, {"x": np.zeros((1, 5), np.float32)}], 2)
