"""`ferry loadtest` as a user meets it, against the paced server in a child process."""

from __future__ import annotations

import argparse
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from loadtests.child import HOST, Child, free_port, running
from loadtests.cli import LoadTestVerb


@pytest.fixture(scope="module")
def paced() -> Iterator[Child]:
    port = free_port()
    command = [sys.executable, "-m", "loadtests.paced", str(port), "--per-batch-ms", "1", "--per-row-ms", "0"]
    with running(command, port, ready_path="/v2/health/ready") as child:
        yield child


def ferry_loadtest(*words: object) -> int:
    verb = LoadTestVerb()
    parser = argparse.ArgumentParser()
    verb.configure(parser)
    return verb.run(parser.parse_args([str(word) for word in words]))


def url(child: Child) -> str:
    return f"http://{HOST}:{child.port}"


def only(folder: Path, ending: str) -> Path:
    (file,) = folder.glob(f"*.{ending}")
    return file


def test_an_open_loop_run_reports_and_compares(paced: Child, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--url", url(paced), "--model", "paced", "--duration", "500ms", "--slo", "1s", "--timeout", "5s"]
    ferry_loadtest(*flags, "--rate", 100, "--verify", "--processes", 2, "--out", tmp_path / "a")
    ferry_loadtest(*flags, "--rate", 50, "--binary", "--arrivals", "constant", "--tell-slo", "--out", tmp_path / "b")
    printed = capsys.readouterr().out
    assert "open loop" in printed
    a, b = only(tmp_path / "a", "json"), only(tmp_path / "b", "json")
    content: dict[str, Any] = orjson.loads(a.read_bytes())
    counts = content["traffic"]["paced"]["counts"]
    assert counts["in_slo"] == counts["scheduled"] > 20
    assert content["traffic"]["paced"]["verified"]
    assert content["server"]["pid"] == paced.pid
    assert content["environment"]["python"]
    assert content["configuration"]["rate"] == 100
    page = only(tmp_path / "a", "html").read_text()
    assert page.count("<svg") == 3
    assert "http://" not in page.replace(url(paced), "")
    assert ferry_loadtest("compare", a, b) == 0
    compared = capsys.readouterr().out
    assert "goodput_per_s" in compared
    assert "differs: rate: 100.0 | 50.0" in compared


def test_a_closed_loop_is_labelled(paced: Child, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--url", url(paced), "--model", "paced", "--duration", "200ms", "--closed", 2, "--verify", "--out", tmp_path]
    assert ferry_loadtest(*flags) == 0
    assert "stops offering load" in capsys.readouterr().out
    assert "stops offering load" in only(tmp_path, "html").read_text()
    assert ferry_loadtest("compare", only(tmp_path, "json"), only(tmp_path, "json")) == 0


def test_two_slo_classes_and_slow_clients_as_a_scenario(paced: Child, tmp_path: Path) -> None:
    file = tmp_path / "both.toml"
    file.write_text(
        'title = "Both"\nduration_s = 0.6\n[[traffic]]\nname = "urgent"\nfactor = 0.5\n[[traffic]]\nname = "patient"\nrate = 30\n'
        'slo_factor = 6\n[[action]]\nat_s = 0.1\npost = "/v2/repository/models/{model}/load"\n'
        "[slow_clients]\nn = 3\nrequest_s = 0.2\n"
    )
    ferry_loadtest("--url", url(paced), "--model", "paced", "--rate", 60, "--slo", "1s", "--scenario", file, "--out", tmp_path)
    content = orjson.loads(only(tmp_path, "json").read_bytes())
    assert {name: one["slo_ms"] for name, one in content["traffic"].items()} == {"urgent": 1000, "patient": 6000}
    assert content["scenario"]["slow_clients"]["completed"] > 0
    assert content["scenario"]["actions"][0]["answer"].endswith('{"error":"unknown model"}')
    assert "Both" in only(tmp_path, "html").read_text()


def test_a_trace_with_lengths_is_replayed(paced: Child, tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("".join(f"{at / 50},{1 + at % 3}\n" for at in range(20)))
    flags = ["--url", url(paced), "--model", "paced", "--arrivals", f"trace:{trace}", "--duration", "1s"]
    ferry_loadtest(*flags, "--out", tmp_path / "out")
    content = orjson.loads(only(tmp_path / "out", "json").read_bytes())
    assert content["traffic"]["paced"]["counts"]["in_slo"] == 20
    assert content["duration_s"] == 19 / 50, "it ends with its last request, not after --duration"


def test_a_search_and_a_sweep_report(paced: Child, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loadtests.sweep.FACTORS", (0.5, 1.0))
    monkeypatch.setattr("loadtests.sweep._PAUSE_S", 0.0)
    flags = ["--url", url(paced), "--model", "paced", "--slo", "1s", "--sweep", "--rate", 100, "--probe", "300ms"]
    ferry_loadtest(*flags, "--out", tmp_path)
    assert [point["factor"] for point in orjson.loads(only(tmp_path, "json").read_bytes())["sweep"]] == [0.5, 1.0]
    assert "Goodput against offered load" in only(tmp_path, "html").read_text()
    assert ferry_loadtest("compare", only(tmp_path, "json"), only(tmp_path, "json")) == 0


def test_what_cannot_work_is_one_clear_sentence(paced: Child, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server((HOST, 0)) as listener:
        nobody = f"http://{HOST}:{listener.getsockname()[1]}"
    wrong, trace, nan = tmp_path / "wrong.npz", tmp_path / "none.txt", tmp_path / "nan.txt"
    np.savez(wrong, x=np.zeros((4, 4), np.int64))
    nan.write_text("0.0\nnan\n")
    here = ["--url", url(paced), "--rate", 10]
    model = [*here, "--model", "paced"]
    cases: list[tuple[list[object], str]] = [
        (["--url", nobody, "--model", "m", "--rate", 1], "no answer from"),
        ([*here, "--model", "nope"], "model 'nope': unknown model"),
        (here, "which model?"),
        ([*model, "--input", wrong], "input x is INT64; the model wants FP32"),
        ([*model, "--arrivals", f"trace:{trace}"], "cannot read the trace"),
        ([*model, "--arrivals", f"trace:{nan}"], "line 2: 'nan' is not a finite time"),
        ([*model, "--arrivals", "steady"], "use poisson"),
        ([*model, "--verify", tmp_path / "x.npz"], "cannot read the expected outputs"),
        ([*model, "--scenario", "nope"], "those that come along are burst"),
        ([*model, "--find-capacity"], "give --slo"),
        ([*model, "--sweep", "--slo", "1s", "--arrivals", "constant"], "leave out --arrivals"),
        ([*model, "--url", "https://x"], "TLS is not spoken"),
        ([*model, "--url", "ftp://x"], "use http://HOST:PORT or grpc://HOST:PORT"),
        (["compare", wrong, wrong], "cannot read the result"),
        (["compare", "a"], "the only words are"),
        ([*model[:2], "--model", "paced"], "needs --rate"),
    ]
    for words, message in cases:
        assert ferry_loadtest(*words) == 1
        printed = capsys.readouterr().err
        assert message in printed
        assert "Traceback" not in printed


def test_wrong_answers_fail_a_run(paced: Child, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = tmp_path / "expected.jsonl"
    expected.write_text('{"y": [[2.0]]}\n' * 2)
    flags = ["--url", url(paced), "--model", "paced", "--rate", 50, "--duration", "200ms", "--n-inputs", 2]
    assert ferry_loadtest(*flags, "--verify", expected) == 1
    assert "wrong answer: output y differs" in capsys.readouterr().out


def test_an_interrupted_run_reports_what_there_was(paced: Child) -> None:
    code = (  # a shell starts what it puts in the background with this signal ignored, and children inherit that
        "import signal, sys; from tests.loadtests.test_cli import ferry_loadtest\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "if __name__ == '__main__': sys.exit(ferry_loadtest(*sys.argv[1:]))"
    )
    flags = ["--url", url(paced), "--model", "paced", "--rate", "50", "--duration", "60s"]
    with subprocess.Popen(
        [sys.executable, "-c", code, *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert "answers/s" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        printed, errors = process.communicate()
    assert process.returncode == 1
    assert "the run was interrupted" in printed
    assert "Traceback" not in printed + errors


def test_a_server_that_dies_leaves_a_partial_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    command = [sys.executable, "-m", "loadtests.paced", str(port), "--die-after", "40"]
    with running(command, port, ready_path="/v2/health/ready") as child:
        ferry_loadtest("--url", url(child), "--model", "paced", "--rate", 100, "--duration", "1s", "--out", tmp_path)
    printed = capsys.readouterr()
    assert "the server went away" in printed.out
    assert "Traceback" not in printed.out + printed.err
    counts = orjson.loads(only(tmp_path, "json").read_bytes())["traffic"]["paced"]["counts"]
    assert 0 < counts["in_slo"] < 40
    assert counts["in_slo"] + sum(counts["failed"].values()) == counts["scheduled"]
