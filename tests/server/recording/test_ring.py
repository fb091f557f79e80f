import gc
import weakref

import orjson
import pytest

from server.core.events import Submit, Wake
from server.core.scheduler import Scheduler
from server.core.types import InferRequest
from server.recording.facts import LONGEST_TEXT
from server.recording.file import pieces, read
from server.recording.replay import first_difference
from server.recording.ring import Ring
from tests.server.core.build import KEY
from tests.server.recording.build import HEADER, Tape


class Payload:
    """Something heavy."""


def test_it_keeps_no_payload_alive() -> None:
    scheduler: Scheduler[Payload] = Scheduler()
    ring = Ring(scheduler)
    payload = Payload()
    event = Submit(KEY, (InferRequest(1, KEY, 1, 0, 0.0, 1.0, payload),))
    ring.note(event, scheduler.handle(event, 0.0), 0.0)
    found = weakref.ref(payload)
    del payload, event
    gc.collect()
    assert found() is None
    assert b'"refuse",1,"draining"' in ring.chunks()[-1].pages[-1]


def test_it_forgets_the_oldest_and_what_is_left_can_be_replayed() -> None:
    tape = Tape()
    tape.ring = Ring(tape.scheduler, chunk_bytes=2000, n_chunks=3)
    sizes = []
    for number in range(1, 400):
        tape.submit(6.0 * number, number, deadline_ms=6.0 * number + 100)
        tape.done(6.0 * number + 5)
        sizes.append(tape.ring.n_bytes)
    assert max(sizes) < 3 * (2000 + 4500)
    recording = read(b"".join(pieces(HEADER, tape.ring.chunks())))
    assert len(recording.parts) == 3
    assert recording.parts[-1].lines[-1].event[:2] == ["step_done", 399]
    assert first_difference(recording) is None


def test_what_was_handed_out_does_not_change_any_more() -> None:
    tape = Tape()
    chunks = tape.ring.chunks()
    before = b"".join(pieces(HEADER, chunks))
    tape.feed(1.0, Wake())
    assert b"".join(pieces(HEADER, chunks)) == before != tape.data()


def test_a_bug_in_it_ends_the_recording_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever decides goes on: those who wait must get their answers."""
    tape = Tape()
    tape.ring = Ring(tape.scheduler, chunk_bytes=2000)
    tape.scheduler.novelty = object()  # type: ignore[attr-defined]  # what a state cannot hold
    for number in range(1, 100):
        tape.submit(6.0 * number, number, deadline_ms=6.0 * number + 100)
        tape.done(6.0 * number + 5)
    tape.ring.name(100, "too late")
    assert caplog.text.count("the flight recorder stops here, and the server goes on without it") == 1
    assert "a object is nothing that a recording can hold" in caplog.text
    assert b"too late" not in tape.data()
    assert len(read(tape.data()).parts) == 1


def test_names_are_cut() -> None:
    tape = Tape()
    tape.ring.name(7, 1000 * "n")
    assert orjson.loads(tape.data().splitlines()[-1]) == ["name", 7, LONGEST_TEXT * "n"]
    assert tape.recording().names == {7: LONGEST_TEXT * "n"}
