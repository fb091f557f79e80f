from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from loadtests import bench, data
from tests.loadtests import fake_v2
from tests.loadtests.models import publish, sentence

FAKE = shlex.join([sys.executable, fake_v2.__file__])
QUICK = ["--rounds", "2", "--round-s", "0.05", "--sweep-s", "0.001", "--cold-starts", "2", "--connections", "3"]


def run(tmp_path: Path, *more: str) -> int:
    out = tmp_path / "results"
    return bench.main(["--repository", str(tmp_path / "models"), "--out", str(out), *QUICK, *more])


def result(tmp_path: Path) -> Any:
    (file,) = (tmp_path / "results").iterdir()
    return orjson.loads(file.read_bytes())


def test_a_whole_benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn")
    publish(tmp_path / "models")
    monkeypatch.setattr(data, "texts", lambda n: [sentence(1, 2, 3), sentence(9)])
    assert run(tmp_path, "--server", FAKE) == 0
    found = result(tmp_path)
    assert list(found["lanes"]) == ["echo", "echo, alone", "digits JSON", "digits binary", "digits JSON, alone", "minilm JSON"]
    for lane in found["lanes"].values():
        assert len(lane["rounds"]) == 2
        assert lane["median"]["n_answered"] > 0
        assert lane["median"]["n_refused"] == lane["median"]["n_failed"] == 0
    assert set(found["largest_difference"].values()) == {0.0}
    assert {model: len(one["rows_per_s"]) for model, one in found["in_process"].items()} == {"digits": 2, "minilm": 2}
    lone, echo = (found["lanes"][name]["rounds"] for name in ("digits JSON, alone", "echo, alone"))
    shares = [
        one["p50_ms"] / (base["p50_ms"] + 1e3 / rate)
        for one, base, rate in zip(lone, echo, found["in_process"]["digits"]["one_by_one_per_s"], strict=True)
    ]
    assert found["alone_to_echo_and_one_run"] == {"digits": pytest.approx(sum(shares) / 2)}
    assert len(found["starts"]) == 2
    printed = capsys.readouterr().out
    assert "digits binary" in printed
    assert "cold start" in printed


def test_a_model_that_is_not_served_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn")
    publish(tmp_path / "models")
    assert run(tmp_path, "--server", FAKE, "--minilm", "other") == 0
    assert "minilm JSON" not in result(tmp_path)["lanes"]
    assert "other is left out: status 404" in capsys.readouterr().err


def test_a_server_that_serves_nothing_known_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "--server", FAKE, "--digits", "a", "--minilm", "b") == 1
    assert "bench: neither a nor b is served" in capsys.readouterr().err


def test_a_server_that_does_not_start_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "--server", shlex.join([sys.executable, "-c", "raise SystemExit('no licence')"])) == 1
    assert "no licence" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [["--rounds", "0"], ["--round-s", "inf"], ["--nonsense"]])
def test_a_wrong_command_line_is_refused(flags: list[str]) -> None:
    with pytest.raises(SystemExit):
        bench.parse(flags)
