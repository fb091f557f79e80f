"""`ferry simulate` and `ferry plan` on a repository: what they print and write, and that bad input is one clear line and exit status 2."""

from __future__ import annotations

import argparse
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loadtests.compare import compare
from server.contract.layout import PROFILE
from server.contract.manifest import Ragged
from server.plan import PlanVerb
from server.simulate import SimulateVerb
from server.stage import Overrides, stage
from server.verbs import Verb
from server.workload import workload
from tests.server.runtime.scripted_world import publish_fake

SCENARIOS = Path(__file__).parents[2] / "loadtests" / "scenarios"
Ferry = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    publish_fake(folder, "paced", slo_s=0.06, max_rows=32, batch_s=0.004, row_s=0.001)
    publish_fake(folder, "twin", slo_s=0.06, max_rows=8, instances=2, batch_s=0.002, row_s=0.001)
    publish_fake(folder, "ragged", slo_s=0.06, batch_s=0.004, ragged=Ragged("length", 4, 64, {"x": 0.0}, mixes=True))
    return folder


@pytest.fixture
def ferry(repository: Path, capsys: pytest.CaptureFixture[str]) -> Ferry:
    """`ferry WORDS` on the repository: exit status, output, errors."""

    def run(*words: object) -> tuple[int, str, str]:
        verb: Verb = SimulateVerb() if words[0] == "simulate" else PlanVerb()
        parser = argparse.ArgumentParser(f"ferry {words[0]}")
        verb.configure(parser)
        try:
            given = ["--repository", str(repository), "--requests", "300", *map(str, words[1:])]
            status = verb.run(parser.parse_args(given))
        except SystemExit as exit_:
            status = int(str(exit_.code))
        out, err = capsys.readouterr()
        return status, out, err

    return run


def test_a_rate_gives_a_line_of_figures(ferry: Ferry) -> None:
    status, out, _ = ferry("simulate", "paced", "--rate", 100)
    assert status == 0
    assert out.splitlines()[0].startswith("paced/1: SLO 60ms, 1 instance of 1 thread, batches of up to 32 rows")
    assert re.search(r"^paced +\d+\.\d +\d+\.\d +\d+\.\d +100\.00%", out, re.MULTILINE)


def test_without_a_rate_the_capacity_is_told_and_some_shares_of_it(ferry: Ferry) -> None:
    status, out, _ = ferry("simulate", "paced")
    assert status == 0
    assert re.search(r"^capacity: \d+\.\d/s of paced, with 99% of all requests in the SLO$", out, re.MULTILINE)
    assert re.findall(r"^paced at ([\d.]+)x ", out, re.MULTILINE) == ["0.3", "0.6", "0.9", "1.5"]
    assert ferry("simulate", "paced", "--find-capacity")[1].count("\n") == 3
    assert "paced at 0.5x" in ferry("simulate", "paced", "--load", 0.5)[1]


def test_the_json_has_the_names_of_the_load_test_and_can_be_compared_with_one(ferry: Ferry, tmp_path: Path) -> None:
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    assert ferry("simulate", "paced", "--rate", 100, "--json", first)[0] == 0
    assert ferry("simulate", "paced", "--rate", 200, "--json", second)[0] == 0
    one = json.loads(first.read_text())["traffic"]["paced"]
    assert one["counts"]["scheduled"] == one["counts"]["in_slo"] + one["counts"]["late"] + sum(
        one["counts"]["refused"].values()
    )
    assert 5 < one["latency_ms"]["p50"] < one["latency_ms"]["p99"] < 60
    assert "paced latency_ms.p99" in compare(first, second)


def test_a_plan_says_how_many_machines_and_what_it_assumes(ferry: Ferry, tmp_path: Path) -> None:
    status, out, _ = ferry("plan", "twin", "--rate", 5000, "--json", tmp_path / "plan.json")
    assert status == 0
    plan: dict[str, Any] = json.loads((tmp_path / "plan.json").read_text())
    assert f"{plan['machines']} machines with 2 instances" in out
    assert f"{plan['instances']} instances in all" in out
    assert "assumed: machines like the one profiled" in out
    assert plan["reserve"] >= 0.25
    assert plan["usual"]["traffic"]["twin"]["in_slo_share"] >= 0.99


def test_more_instances_than_were_measured_are_not_promised_quietly(ferry: Ferry) -> None:
    status, out, _ = ferry("simulate", "twin", "--rate", 100, "--instances", 4)
    assert status == 0
    assert "! twin/1: 4 instances, but its profile was measured with 2" in out
    assert "machines with 2 instances" in ferry("plan", "twin", "--rate", 5000, "--instances", 4)[1]


BAD = [
    (("simulate", "nix"), "no model 'nix' in .*; there are paced, ragged, twin"),
    (("simulate",), "which model"),
    (("simulate", "paced", "--rate", "-3"), "argument --rate: -3 is not above zero"),
    (("simulate", "paced", "--rate", "many"), "argument --rate: 'many' is not a number"),
    (("simulate", "paced", "--slo", "20"), "write a positive number with a unit"),
    (("simulate", "paced", "--slo", "3ms"), r"paced/1 takes 5\.6ms for 1 row alone, more than the SLO of 3ms"),
    (("simulate", "paced", "--rows", "64", "--rate", "1"), "takes requests of up to 32 rows"),
    (("simulate", "paced", "--rows", "1.5"), "not a whole number"),
    (("simulate", "paced", "--model-version", "7"), "paced/7"),
    (("simulate", "paced", "--arrivals", "sometimes"), "use poisson, constant"),
    (("simulate", "paced", "--arrivals", "trace:nowhere.txt"), "cannot read 'nowhere.txt'"),
    (("simulate", "ragged", "--lengths", "fixed:4000"), "ragged/1 takes lengths from 4 to 64"),
    (("simulate", "ragged", "--lengths", "lognormal:1:2"), "use fixed:N, uniform"),
    (("simulate", "ragged", "--lengths", "nowhere.txt"), "cannot read 'nowhere.txt'"),
    (("simulate", "paced", "--rate", "100000", "--duration", "60m"), "more than can be simulated"),
    (("simulate", "paced", "--rate", "10", "--json", "/nowhere/x.json"), "cannot write /nowhere/x.json"),
    (("simulate", "--scenario", "nowhere.toml"), "scenario 'nowhere.toml'"),
    (("plan", "paced"), "give --rate"),
    (("plan", "paced", "--rate", "10", "--headroom", "-1"), "not a finite number from zero on"),
    (("plan", "paced", "--rate", "10", "--slo", "2ms"), "no machine of this kind can keep it"),
    (("plan", "paced", "--rate", "10", "--slo", "5.65ms"), "no number of machines can: served alone"),
    (("plan", "paced", "--rate", "10", "--json", "/nowhere/x.json"), "cannot write /nowhere/x.json"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "message"), BAD, ids=[" ".join(words) for words, _ in BAD])
def test_bad_input_is_one_clear_line(words: tuple[str, ...], message: str, ferry: Ferry) -> None:
    status, _, err = ferry(*words)
    assert status == 2
    assert re.search(message, err)
    assert err.splitlines()[-1].startswith(f"ferry {words[0]}: ")


def test_a_repository_that_is_not_there(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    SimulateVerb().configure(parser)
    assert SimulateVerb().run(parser.parse_args(["m", "--repository", str(tmp_path / "none")])) == 2


def test_a_scenario_mixes_models_that_share_the_device(ferry: Ferry, tmp_path: Path) -> None:
    file = tmp_path / "mix.toml"
    file.write_text(
        'duration_s = 3\n[[traffic]]\nmodel = "paced"\nfactor = 0.5\n[[traffic]]\nmodel = "twin"\nfactor = 0.5\nslo_factor = 2\n'
        '[[traffic]]\nmodel = "ragged"\nrate = 30\nlengths = "uniform:4:64"\nslo_ms = 50\n'
    )
    status, out, _ = ferry("simulate", "--scenario", file, "--rate", 200, "--slo", "40ms")
    assert status == 0
    offered = dict(re.findall(r"^(paced|twin|ragged) +(\d+\.\d)", out, re.MULTILINE))
    assert 70 < float(offered["paced"]) < 130
    assert 20 < float(offered["ragged"]) < 45
    assert "twin/1: SLO 80ms" in out


def test_two_classes_of_one_model_are_told_apart(ferry: Ferry, tmp_path: Path) -> None:
    file = SCENARIOS / "two_slo_classes.toml"
    status, out, _ = ferry(
        "simulate", "paced", "--scenario", file, "--rate", 700, "--slo", "50ms", "--tell-slo", "--duration", "3s"
    )
    assert status == 0
    assert "paced/1: SLO 50ms and 300ms" in out
    assert re.search(r"^urgent .*^patient ", out, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("file", sorted(SCENARIOS.glob("*.toml")), ids=lambda file: file.stem)
def test_every_scenario_that_comes_along_is_read_or_refused_for_what_only_a_wire_can_do(file: Path, ferry: Ferry) -> None:
    status, _, err = ferry("simulate", "paced", "--scenario", file, "--rate", 50, "--duration", "1s")
    needs_wire = file.stem in ("cold_start", "hot_reload", "slow_clients")
    needs_models = file.stem == "two_models"
    assert status == (2 if needs_wire or needs_models else 0), err
    assert ("which cannot be simulated" in err) == needs_wire
    assert ("no model" in err) == needs_models


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", "unknown key 'x'"),
        ("title = 1", "wrong type"),
        ("[[traffic]]\nrats = 3", "traffic: unknown key 'rats'"),
        ("title = 'none'", "no \\[\\[traffic\\]\\]"),
        ("[[traffic]]\ninput = 'a.txt'", "lengths only"),
        ("[[traffic]]\nrate = -1", "must be above zero"),
        ("[[traffic]]\nrows = 0", "rows = 0"),
        ("[[traffic]]\nstart_s = 9", "give a longer --duration"),
    ],
)
def test_a_bad_scenario_is_one_clear_line(text: str, message: str, ferry: Ferry, tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(text)
    status, _, err = ferry("simulate", "paced", "--scenario", tmp_path / "s.toml", "--rate", 10, "--duration", "5s")
    assert status == 2
    assert re.search(message, err)


def test_a_trace_is_played_as_recorded(ferry: Ferry, tmp_path: Path) -> None:
    trace = tmp_path / "t.txt"
    trace.write_text("".join(f"{0.1 * n:.1f} {4 + n}\n" for n in range(20)))
    status, out, _ = ferry(
        "simulate", "ragged", "--arrivals", f"trace:{trace}", "--duration", "1s", "--json", tmp_path / "o.json"
    )
    assert status == 0, out
    assert json.loads((tmp_path / "o.json").read_text())["traffic"]["ragged"]["counts"]["scheduled"] == 11
    trace.write_text("0 2\n1 4\n")
    assert "takes lengths from 4 on; the trace has 2" in ferry("simulate", "ragged", "--arrivals", f"trace:{trace}")[2]


def test_versions_are_offered_on_the_terms_of_the_server(repository: Path) -> None:
    """Idle neighbours are there too, because they share the device; one that cannot be served is left out, and told."""
    parser = argparse.ArgumentParser()
    SimulateVerb().configure(parser)
    asked = workload(parser.parse_args(["twin", "--slo", "80ms"]), None, None).asked
    made = stage(repository, asked, False, Overrides())
    assert [str(one.key) for one in made.versions] == ["paced/1", "ragged/1", "twin/1"]
    twin = made.asked[0]
    assert (twin.placement.instances, twin.device, twin.limits.ahead) == (2, "cpu", 1)
    (repository / "broken").mkdir()
    try:
        assert (
            stage(repository, asked, False, Overrides()).notices[0].startswith("broken is left out: broken: no version folder")
        )
    finally:
        (repository / "broken").rmdir()


def test_a_version_without_a_profile_cannot_be_predicted(repository: Path, tmp_path: Path, ferry: Ferry) -> None:
    """Alone that is an error; beside others it is left out, and told."""
    shutil.copytree(repository, tmp_path / "other")
    (tmp_path / "other" / "ragged" / "1" / PROFILE).unlink()
    status, _, told = ferry("simulate", "ragged", "--repository", tmp_path / "other")
    assert (status, told.count("\n")) == (2, 1)
    assert "ferry simulate: ragged/1 has no profile yet, so nothing can be predicted; publish it with `ferry optimize`" in told
    status, out, _ = ferry("simulate", "twin", "--rate", 100, "--repository", tmp_path / "other")
    assert status == 0
    assert "! ragged is left out: ragged/1 has no profile yet" in out


@pytest.mark.parametrize("verb", [SimulateVerb(), PlanVerb()])
def test_help_tells_every_flag(verb: Verb, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    verb.configure(parser)
    parser.print_help()
    text = capsys.readouterr().out
    assert "--lengths" in text
    assert all(action.help for action in parser._actions)
