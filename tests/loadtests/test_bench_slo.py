from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from loadtests import bench_slo, slo_report, slo_subjects
from loadtests.bench_slo import FACTORS, Measured, summary, verdicts
from loadtests.capacity import Found, Try
from loadtests.child import Child
from loadtests.errors import BadInput
from loadtests.peers import models
from loadtests.slo_subjects import Subject, subject
from tests.loadtests.conftest import Serve
from tests.loadtests.peers.example import doubling
from tests.loadtests.slo_examples import load
from tests.loadtests.test_closed_loop import OK, request

HELD = Try(90.0, 1000, 0, "holds", 0.999, True)
FOUND = Found(0.3, 90.0, 93.0, [HELD], HELD)


def some_subject() -> Subject:
    return Subject("m", None, [b""], 0.1, lambda seconds: 100.0, 0.9, {"batch": 8})


def measured(found: Found, goodput: dict[float, list[float]], p99_ms: float | None = 250.0) -> Measured:
    loads = {factor: [load(one, p99_ms) for one in rounds] for factor, rounds in goodput.items()}
    return Measured(some_subject(), 0.3, [90.0, 100.0, 110.0], found, loads)


def test_medians_of_the_rounds_are_judged() -> None:
    one = measured(FOUND, {1.0: [95.0], 2.0: [80.0, 87.0, 99.0], 4.0: [70.0, 72.0, 99.0]})
    told = verdicts(one)
    assert [(v.figure, v.holds) for v in told] == [
        ("m: server / offline", True),
        ("m: goodput at 2 x / peak", True),
        ("m: goodput at 4 x / peak", False),
        *((f"m: p99 of the answered / SLO, at {factor:g} x", True) for factor in FACTORS),
    ]
    assert told[0].found == 0.9
    assert told[2].found == 0.8


def test_a_goodput_above_the_capacity_is_the_peak() -> None:
    one = measured(FOUND, {1.0: [200.0], 2.0: [120.0], 4.0: [90.0]}, p99_ms=330.0)
    told = verdicts(one)
    assert summary(one).peak_per_s == 120.0
    assert told[2].found == 0.75
    assert told[-1].found == pytest.approx(1.1)
    assert not told[-1].holds


def test_requests_of_unequal_work_are_judged_by_their_work_as_well() -> None:
    one = measured(FOUND, {1.0: [95.0], 2.0: [80.0], 4.0: [120.0]})  # of which 72 and 108 mean requests' worth
    told = {v.figure: v for v in verdicts(replace(one, subject=replace(one.subject, work=(0.5, 1.5))))}
    assert told["m: goodput at 2 x / peak"].found == pytest.approx(80 / 120)
    assert told["m: work in time at 2 x / peak"].found == pytest.approx(72 / 108)
    assert told["m: work in time at 4 x / peak"].found == 1.0
    assert not any("work" in v.figure for v in verdicts(one)), "where all are alike it is the same"


def test_without_a_capacity_every_claim_misses() -> None:
    one = measured(replace(FOUND, rate=0.0, best=None), {factor: [] for factor in FACTORS})
    assert not any(v.holds for v in verdicts(one))


def test_loads_that_the_generator_could_not_keep_up_with_prove_nothing() -> None:
    one = measured(FOUND, {1.0: [95.0], 2.0: [80.0, 87.0, 99.0], 4.0: [90.0, 72.0, 99.0]})
    late = [{**load, "generator_kept_up": at == 2} for at, load in enumerate(one.loads[2.0])]
    dropped = [{**load, "generator_kept_up": at != 1} for at, load in enumerate(one.loads[4.0])]
    told = {v.figure: v for v in verdicts(replace(one, loads={**one.loads, 2.0: late, 4.0: dropped}))}
    assert told["m: goodput at 2 x / peak"].told == "VOID"
    assert told["m: goodput at 4 x / peak"].found == pytest.approx(94.5 / 99.0)
    limited = replace(FOUND, above=93.0, tries=[replace(HELD, rate=93.0, kept_up=False)])
    assert verdicts(replace(one, found=limited))[0].told == "VOID"


def test_the_paced_subject_is_known_by_its_law() -> None:
    paced = subject("paced", Path("nowhere"), 1)
    assert paced.batch_s == pytest.approx(0.036)
    assert paced.offline(1.0) == pytest.approx(32 / 0.036)
    assert b"POST /v2/models/paced/infer" in paced.requests[0]


def test_a_published_subject_is_measured_by_its_own_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = doubling(tmp_path / "models")
    monkeypatch.setattr(models, "load", lambda name, repository, n_texts: loaded)
    monkeypatch.setattr(slo_subjects, "_SWEEP_S", 0.001)
    version = loaded[0].file.parent
    (version / "profile.json").write_text('{"cells":[{"rows":1,"length":0,"p50_s":0.001},{"rows":16,"length":0,"p50_s":0.25}]}')
    found = subject("minilm", tmp_path, 8)
    assert (found.batch_s, found.told["batch"], found.told["tensors"]) == (0.25, 16, "JSON")
    assert found.offline(0.001) > 0
    assert found.version == version
    assert found.work == (), "no lengths"


def test_an_unknown_model_is_refused() -> None:
    with pytest.raises(BadInput, match="known are paced, minilm, resnet18"):
        subject("resnet50", Path("nowhere"), 1)


@dataclass(frozen=True, slots=True)
class Here(Subject):
    """Served by whoever listens on a port of this process."""

    port: int = 0

    @contextmanager
    def served(self, command: str, slo_s: float) -> Iterator[Child]:
        yield Child(os.getpid(), self.port, 0.0)


def test_a_whole_run_writes_what_the_report_reads(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    port = serve(lambda number, whole: [OK]).port
    here = Here("m", None, [request(b"a")], 0.005, lambda seconds: 100.0, 0.9, {"batch": 8}, port=port)
    monkeypatch.setattr(bench_slo, "subject", lambda name, repository, n_texts: here)
    monkeypatch.setattr(bench_slo, "find_capacity", lambda *_, **__: FOUND)
    assert bench_slo.main(["--models", "m", "--rounds", "1", "--load-s", "0.2", "--out", str(tmp_path)]) == 0
    (file,) = tmp_path.glob("slo-*.json")
    content = slo_report.read(file)
    assert content["command"] == f"python -m loadtests.bench_slo --models m --rounds 1 --load-s 0.2 --out {tmp_path.name}"
    assert str(tmp_path) not in file.read_text()
    assert set(content["subjects"]["m"]["loads"]) == {"1", "2", "4"}
    assert "server / offline" in capsys.readouterr().out
