"""One process beside front ends: the whole benchmark once, on real servers, for moments."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import orjson
import pytest

from loadtests import bench_frontends, cpu


def test_a_whole_benchmark_tells_the_cost_by_role(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnx")
    out = tmp_path / "results"
    flags = ["--repository", str(tmp_path), "--out", str(out), "--rounds", "1", "--round-s", "0.3", "--connections", "4"]
    assert bench_frontends.main([*flags, "--frontends", "1"]) == 0
    (file,) = out.iterdir()
    found: Any = orjson.loads(file.read_bytes())
    assert list(found["lanes"]) == ["noop, one process", "noop, 1 front ends"]
    for name, lane in found["lanes"].items():
        (one,) = lane["rounds"]
        assert one["n_answered"] > 0
        assert one["n_refused"] == one["n_failed"] == 0
        roles = {"everything"} if "one process" in name else {"engine", "front end", "supervisor"}
        assert set(one["cpu_us"]) == {"server", *roles}
        assert one["cpu_us"]["server"] == pytest.approx(sum(one["cpu_us"][role] for role in roles))
    assert set(found["idle_pss_bytes"]["1 front ends"]) == {"engine", "front end", "supervisor"}
    assert "noop, 1 front ends" in capsys.readouterr().out


def test_a_server_that_does_not_start_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnx")
    assert bench_frontends.main(["--repository", str(tmp_path), "--out", str(tmp_path), "--server", "false"]) == 1
    assert "bench-frontends: " in capsys.readouterr().err


def test_a_process_is_told_by_its_command_and_its_own_cost() -> None:
    assert "".join(cpu.command(os.getpid())[:1]).rpartition("/")[2].startswith("python")
    assert 0 < cpu.own_cpu_s(os.getpid()) <= cpu.cpu_s(os.getpid())
    assert (cpu.command(0), cpu.own_cpu_s(0)) == ([], 0.0)
