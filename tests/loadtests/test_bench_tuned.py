from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from loadtests import bench_tuned, slo_report
from loadtests.bench_tuned import verdicts
from loadtests.errors import ChildFailed
from loadtests.peers import models
from loadtests.peers.fastapi import FASTAPI
from loadtests.peers.peer import Knob, Model, Peer, Tuning
from loadtests.peers.summary import FERRY
from loadtests.peers.visits import Siege
from loadtests.verdicts import Verdict
from tests.loadtests.peers.example import doubling
from tests.loadtests.slo_examples import broken, visit

HERE = replace(FASTAPI, requirements=(), candidates={"digits": (Tuning(),)}, knobs=(Knob.QUEUE,))


Besieged = Callable[[Peer, Model, Tuning, Path, Siege, int], dict[str, Any]]


def compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, besieged: Besieged, n_rounds: int) -> dict[str, Any]:
    """What the whole benchmark writes of ferry and one peer, whose visits find what `besieged` says."""
    loaded = doubling(tmp_path / "models")
    monkeypatch.setattr(models, "load", lambda name, repository, n_texts, n_rows: loaded)
    monkeypatch.setattr(bench_tuned, "ROSTER", (replace(HERE, name=FERRY), HERE))
    monkeypatch.setattr(bench_tuned, "besieged", besieged)
    flags = ["--models", "digits", "--rounds", str(n_rounds), "--peers", "ferry,fastapi", "--out", str(tmp_path / "out")]
    assert bench_tuned.main(flags) == 0
    (file,) = (tmp_path / "out").glob("tuned-*.json")
    return slo_report.read(file)


def test_ratios_are_taken_within_a_round_in_answers_and_in_shares() -> None:
    rounds = [
        {"ferry": visit(100.0, 90.0), "a, as it comes": visit(300.0, 0.0), "a, tuned": visit(300.0, 100.0)},
        {"ferry": visit(100.0, 80.0), "a, as it comes": visit(300.0, 3.0), "a, tuned": visit(300.0, 100.0)},
        {"ferry": visit(100.0, 70.0), "a, as it comes": visit(300.0, 3.0), "a, tuned": broken("it fell")},
    ]
    found = {one.figure: one for one in verdicts("digits", rounds)}
    assert found["digits: goodput / that of a, as it comes"].found == pytest.approx(80 / 3)
    assert found["digits: goodput / that of a, as it comes"].bound == 10.0
    assert found["digits: goodput / that of a, tuned"].found == pytest.approx(0.85)
    assert not found["digits: goodput / that of a, tuned"].holds
    assert found["digits: share kept of the maximum / that of a, tuned"].found == pytest.approx(2.55)
    assert found["digits: share kept of the maximum / that of a, tuned"].bound == 1.0


def test_who_never_ran_proves_nothing() -> None:
    (one, other) = verdicts("digits", [{"ferry": visit(100.0, 90.0), "a, tuned": broken("it fell")}])
    assert one.found is other.found is None
    assert not one.holds


def test_a_whole_comparison(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The peer is best with a queue of 38; visits themselves are tested in peers/test_visits.py."""

    def besieged(peer: Peer, model: Model, tuning: Tuning, python: Path, siege: Siege, seed: int) -> dict[str, Any]:
        return visit(1000.0, 900.0 if peer.name == FERRY else 800.0 if tuning.queue == 38 else 10.0)

    content = compared(tmp_path, monkeypatch, besieged, n_rounds=2)
    found = content["subjects"]["digits"]
    assert list(found["rounds"][0]) == ["ferry", "fastapi, as it comes", "fastapi, tuned"]
    assert list(found["rounds"][1]) == ["fastapi, as it comes", "fastapi, tuned", "ferry"]
    assert found["sweeps"]["fastapi"]["best"] == str(Tuning(queue=38))
    assert found["rounds"][0]["fastapi, tuned"]["overload"]["goodput_per_s"] == 800.0
    assert "digits, fastapi, tuned" in capsys.readouterr().out


def test_a_load_that_the_best_way_carries_is_raised_until_it_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its maximum seemed to be 1,000 and is 4,000; beyond that only a bound on its queue keeps anything."""
    offered: list[float] = []

    def besieged(peer: Peer, model: Model, tuning: Tuning, python: Path, siege: Siege, seed: int) -> dict[str, Any]:
        if not siege.own_per_s:
            return visit(1000.0, 900.0)
        offered.append(siege.factor * siege.own_per_s)
        return visit(1000.0, offered[-1] if offered[-1] <= 4000.0 else 3000.0 if tuning.queue else 10.0)

    content = compared(tmp_path, monkeypatch, besieged, n_rounds=1)
    assert list(dict.fromkeys(offered)) == [1500.0, 2250.0, 3375.0, 5062.5]
    assert content["subjects"]["digits"]["sweeps"]["fastapi"]["own_per_s"] == 3375.0
    assert "queue of" in content["subjects"]["digits"]["sweeps"]["fastapi"]["best"]


def test_only_rounds_count_in_which_both_were_overloaded_as_meant() -> None:
    ours, theirs = visit(100.0, 90.0), visit(100.0, 50.0)
    late, carried = visit(100.0, 10.0, kept_up=False), visit(100.0, 149.0)

    def found(*rounds: tuple[dict[str, Any], dict[str, Any]]) -> Verdict:
        return verdicts("m", [{"ferry": one, "a, tuned": other} for one, other in rounds])[0]

    assert found((ours, theirs), (late, theirs), (ours, theirs)).found == pytest.approx(1.8)
    assert found((ours, theirs), (ours, carried), (ours, theirs)).found == pytest.approx(1.8)
    assert found((ours, late), (late, theirs), (ours, theirs)).told == "VOID"
    assert found((ours, carried), (ours, carried), (ours, theirs)).told == "VOID"


def test_a_round_in_which_ferry_failed_counts_as_nothing() -> None:
    one, _ = verdicts("m", [{"ferry": broken("it fell"), "a, tuned": visit(100.0, 50.0)}])
    assert (one.found, one.holds) == (0.0, False)


def test_a_visit_whose_generator_was_late_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    n_visits = 0

    def besieged(peer: Peer, model: Model, tuning: Tuning, python: Path, siege: Siege, seed: int) -> dict[str, Any]:
        nonlocal n_visits
        if peer.name != FERRY:
            return visit(1000.0, 10.0)
        n_visits += 1
        return visit(1000.0, 900.0, kept_up=n_visits > 1)

    content = compared(tmp_path, monkeypatch, besieged, n_rounds=1)
    assert n_visits == 2
    found = content["subjects"]["digits"]["rounds"][0]["ferry"]
    assert found["overload"]["generator_kept_up"]
    assert [one["overload"]["generator_kept_up"] for one in found["void"]] == [False]


def test_a_peer_that_does_not_run_is_left_out_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def besieged(peer: Peer, model: Model, tuning: Tuning, python: Path, siege: Siege, seed: int) -> dict[str, Any]:
        if peer.name == FERRY:
            return visit(1000.0, 900.0)
        raise ChildFailed("no licence")

    content = compared(tmp_path, monkeypatch, besieged, n_rounds=1)
    assert content["subjects"]["digits"]["sweeps"]["fastapi"] == {"reason": "no licence"}
    assert list(content["subjects"]["digits"]["rounds"][0]) == ["ferry"]
    assert content["verdicts"] == []
