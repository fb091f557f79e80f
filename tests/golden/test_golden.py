"""The scheduler decides today as it did when the golden recordings were made; make.py makes them anew."""

from pathlib import Path

import pytest

from server.recording.file import read
from server.recording.replay import first_difference, lines
from server.recording.telling import difference_lines
from tests.golden.make import FOLDER

FILES = sorted(FOLDER.glob("*.jsonl"))


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_every_decision_is_the_recorded_one(path: Path) -> None:
    recording = read(path.read_bytes())
    difference = first_difference(recording)
    if difference is not None:
        told = "\n".join(difference_lines(difference, next(lines(recording)).at))
        pytest.fail(f"{told}\nIf the policy was changed on purpose: python -m tests.golden.make, and look at the difference")


def test_the_recordings_hold_every_kind_of_event_and_decision() -> None:
    recordings = [read(path.read_bytes()) for path in FILES]
    events = {line.event[0] for recording in recordings for line in lines(recording)}
    decisions = {facts[0] for recording in recordings for line in lines(recording) for facts in line.actions}
    assert events == {
        "open", "submit", "cancel", "step_done", "step_failed", "instance_up", "instance_lost", "drain", "wake",
        "recost", "open_resident", "iteration_done", "iteration_failed",
    }  # fmt: skip
    assert decisions == {"run", "answer", "refuse", "fail", "closed", "iterate", "emit", "release"}
