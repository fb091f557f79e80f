"""What a bug in the scheduler does to a real server: its requests are told, the process ends and says why, and front ends get another
engine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.child_server import ChildServer, wait_until

pytest.importorskip("onnx")

from collections.abc import Callable

from tests.closed_loops import Load

Start = Callable[..., ChildServer]

POISON = """
import os
from pathlib import Path
from server.core.events import StepDone
from server.core.scheduler import Scheduler

handle = Scheduler.handle


def poisoned(scheduler, event, now):
    actions = handle(scheduler, event, now)
    if isinstance(event, StepDone) and event.batch.requests[0].id > 100 and Path(os.environ["POISON"]).exists():
        Path(os.environ["POISON"]).unlink()
        raise RuntimeError("poisoned")
    return actions


Scheduler.handle = poisoned
"""
"""Python runs a module of this name in each process before anything else."""


@pytest.fixture
def poison(tmp_path: Path) -> dict[str, str]:
    """An environment in which a scheduler breaks once."""
    folder = tmp_path / "poison"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(POISON)
    (folder / "bottle").touch()
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {"PYTHONPATH": path, "POISON": str(folder / "bottle")}


def test_a_server_in_one_process_tells_its_requests_and_ends(
    start_server: Start, own_repository: Path, poison: dict[str, str]
) -> None:
    server = start_server(own_repository, **poison)
    with Load(server).running() as load:
        assert server.process.wait(30) == os.EX_SOFTWARE
        wait_until(lambda: load.outcomes["reset"] > 0, "the clients' notice")
    assert load.outcomes.total() == load.n_sent
    assert load.outcomes["answered"] >= 100
    assert load.outcomes["retryable"] > 0
    assert set(load.outcomes) == {"answered", "retryable", "reset"}, load.outcomes
    assert "RuntimeError: poisoned" in server.log
    assert server.log.count("Traceback") == 1


def test_front_ends_get_another_engine(start_server: Start, own_repository: Path, poison: dict[str, str]) -> None:
    server = start_server(own_repository, "--frontends", "1", **poison)
    with Load(server).running() as load:
        wait_until(lambda: "the next one starts in" in server.log, "the engine's end")
        load.answered(300)
    assert load.outcomes.total() == load.n_sent
    assert set(load.outcomes) == {"answered", "retryable"}, load.outcomes
    assert f"engine ended (exit status {os.EX_SOFTWARE})" in server.log
    assert server.stop() == 0
    assert server.log.count("Traceback") == 1
