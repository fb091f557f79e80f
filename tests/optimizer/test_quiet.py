"""Tools keep quiet, and what they said is there when they fail."""

from __future__ import annotations

import io
import logging
import sys
import warnings

import pytest

from optimizer.errors import OptimizeError, StageFailed
from optimizer.quiet import quiet, tool


def chatter() -> None:
    print("printed")
    print("complained", file=sys.stderr)
    warnings.warn("warned", stacklevel=1)
    logging.warning("logged to the root")
    logging.getLogger("onnxscript.optimizer").error("logged by a library")
    logging.basicConfig(level=logging.INFO)


def fail() -> None:
    print("about to fail")
    try:
        raise KeyError("weight")
    except KeyError as error:
        raise RuntimeError("something went wrong") from error


def test_nothing_gets_out_and_all_of_it_is_kept(capfd: pytest.CaptureFixture[str]) -> None:
    before = [(name, logging.getLogger(name).handlers[:]) for name in (None, "onnxscript")]
    log = io.StringIO()
    with quiet(log):
        chatter()
    assert capfd.readouterr() == ("", "")
    assert log.getvalue().splitlines() == ["printed", "complained", "logged to the root", "logged by a library"]
    assert [(name, logging.getLogger(name).handlers[:]) for name in (None, "onnxscript")] == before
    assert logging.getLogger("onnxscript").propagate


def test_a_failure_tells_the_innermost_reason_and_keeps_the_log() -> None:
    with pytest.raises(StageFailed, match="shrinking: KeyError: 'weight'") as failure, tool("shrinking"):
        fail()
    assert failure.value.log == "about to fail\nsomething went wrong"


@pytest.mark.parametrize("error", [OptimizeError("yours"), StageFailed("ours")])
def test_our_own_errors_are_not_the_tools(error: Exception) -> None:
    with pytest.raises(type(error), match=str(error)) as found, tool("shrinking"):
        raise error
    assert found.value is error
