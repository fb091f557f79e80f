from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from loadtests import bench_peers, peers_report
from loadtests.peers import models
from loadtests.peers.fastapi import FASTAPI
from loadtests.peers.peer import ROOT, Launch, Peer, Tuning, Visit
from tests.loadtests.peers.example import doubling

QUICK = [
    "--round-s",
    "0.05",
    "--alone-s",
    "0.05",
    "--open-s",
    "0.1",
    "--connections",
    "3",
    "--models",
    "digits",
]


def _broken(visit: Visit) -> Launch:
    return Launch([sys.executable, "-c", "raise SystemExit('no licence')"], "/", {})


HERE = replace(FASTAPI, requirements=(), candidates={"digits": (Tuning(), Tuning(workers=2))})
BROKEN = replace(FASTAPI, name="broken", label="Broken", requirements=(), candidates={}, launch=_broken)


def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *roster: Peer, rounds: int = 1) -> int:
    loaded = doubling(tmp_path / "models")
    monkeypatch.setattr(bench_peers, "ROSTER", roster)
    monkeypatch.setattr(models, "load", lambda name, repository, n_texts: loaded)
    flags = ["--out", str(tmp_path / "out"), "--venvs", str(tmp_path / "venvs"), "--rounds", str(rounds)]
    return bench_peers.main([*flags, *QUICK])


def test_a_whole_comparison(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    gone = replace(FASTAPI, name="gone", label="Gone", requirements=(str(tmp_path / "no-such-package"),))
    assert run(tmp_path, monkeypatch, HERE, BROKEN, gone, rounds=2) == 0
    (file,) = (tmp_path / "out").glob("peers-*.json")
    assert file.with_suffix(".html").exists()
    found = peers_report.read(file)
    assert found["peers"]["fastapi"]["versions"]["fastapi"]
    assert "no-such-package" in found["peers"]["gone"]["reason"]
    assert set(found["choices"]["digits"]["fastapi"]["tried"]) == {str(Tuning()), str(Tuning(workers=2))}
    assert found["choices"]["digits"]["broken"] == {"chosen": None, "tried": {}}
    assert len(found["rounds"]) == 2
    for one in found["rounds"]:
        assert one["limits"]["digits"] > 0
        assert one["echo"]["n_answered"] > 0
        visits = one["visits"]["digits"]
        assert set(visits) == {"fastapi", "broken"}
        assert visits["fastapi"]["reason"] is None
        assert "no licence" in visits["broken"]["reason"]
    printed = capsys.readouterr()
    assert "Broken, digits: 2 of 2 visits failed" in printed.out
    assert "no licence" in printed.err


def test_a_way_to_run_that_fails_is_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def launch(visit: Visit) -> Launch:
        return _broken(visit) if visit.tuning.workers == 2 else FASTAPI.launch(visit)

    assert run(tmp_path, monkeypatch, replace(HERE, launch=launch)) == 0
    (file,) = (tmp_path / "out").glob("peers-*.json")
    choice = peers_report.read(file)["choices"]["digits"]["fastapi"]
    assert choice["chosen"] == str(Tuning())
    assert "no licence" in choice["tried"][str(Tuning(workers=2))]


def test_reasons_name_no_place_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def launch(visit: Visit) -> Launch:
        return Launch([str(ROOT / "no-such-server"), str(Path.home() / "x")], "/", {})

    assert run(tmp_path, monkeypatch, replace(BROKEN, launch=launch)) == 0
    (file,) = (tmp_path / "out").glob("peers-*.json")
    reason = peers_report.read(file)["rounds"][0]["visits"]["digits"]["broken"]["reason"]
    assert "cannot start ./no-such-server" in reason


@pytest.mark.parametrize("flags", [["--peers", "ferry,nobody"], ["--models", "gpt"], ["--rounds", "0"], ["--round-s", "inf"]])
def test_a_wrong_command_line_is_refused(flags: list[str]) -> None:
    with pytest.raises(SystemExit):
        bench_peers.parse(flags)


def test_a_repository_without_the_models_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn")
    assert (
        bench_peers.main(["--repository", str(tmp_path), "--peers", "ferry", "--models", "digits", "--out", str(tmp_path)]) == 1
    )
    assert "publish the model first" in capsys.readouterr().err
