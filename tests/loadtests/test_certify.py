from __future__ import annotations

import pytest

from loadtests.certify import Verdict, _verdict, main

SUMMARY = "MLPerf Results Summary\nResult is : {}\n99.00 percentile latency (ns)   : 45556862\n"


@pytest.mark.parametrize(("word", "valid"), [("VALID", True), ("INVALID", False)])
def test_loadgens_summary_is_understood(word: str, valid: bool) -> None:
    assert _verdict(760.0, SUMMARY.format(word)) == Verdict(760.0, valid, 45.556862)


def test_a_run_that_ended_early_is_not_valid() -> None:
    assert _verdict(1.0, "") == Verdict(1.0, False, None)


def test_without_a_server_there_is_one_clear_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--url", "http://127.0.0.1:1", "--model", "m", "--slo", "50ms"]) == 1
    assert capsys.readouterr().err.startswith("certify: ")
