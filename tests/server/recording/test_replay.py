import pytest

from server.recording.file import BadRecording, read
from server.recording.replay import first_difference, lines
from server.recording.telling import difference_lines
from tests.golden.make import FOLDER, RecordedWorld
from tests.server.recording.build import Tape

GOLDEN = (FOLDER / "overload.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("name", "value"), [("server.core.lane.LEAD", 0.5), ("server.core.policy.KEEP", 0.2), ("server.core.forecast.RATE", 0.9)]
)
def test_a_policy_that_was_changed_is_caught(monkeypatch: pytest.MonkeyPatch, name: str, value: float) -> None:
    recordings = [read(path.read_bytes()) for path in sorted(FOLDER.glob("*.jsonl"))]
    monkeypatch.setattr(name, value)
    assert any(first_difference(recording) is not None for recording in recordings)


def test_the_first_difference_is_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    tape = Tape()
    tape.submit(0.0, 1, 2)
    tape.submit(1.0, 3, 4)
    tape.done(6.0)
    recording = tape.recording()
    assert first_difference(recording) is None
    edited = read(tape.data().replace(b'["run",2,[3,4],2,0,"idle"]', b'["run",2,[3],1,0,"full"]'))
    difference = first_difference(edited)
    assert difference is not None
    assert difference.number == 5
    assert list(difference_lines(difference, next(lines(edited)).at)) == [
        "event 5, 0.006000 s after the first: step done 1 None",
        "  recorded:   run batch 2: #3, 1 row, closed: full",
        "              answer all of batch 1",
        "  this ferry: run batch 2: #3, #4, 2 rows, closed: idle",
        "              answer all of batch 1",
    ]


def test_rounding_is_no_difference() -> None:
    retry = b"0.006000000000000001"
    tape = Tape()
    tape.submit(0.0, 1)
    tape.submit(0.0, 2, deadline_ms=6.0)
    assert b'["refuse",2,"deadline",0.004' in tape.data()
    assert first_difference(read(tape.data().replace(b'"deadline",0.004', b'"deadline",0.00400000000001'))) is None
    assert first_difference(read(tape.data().replace(b'"deadline",0.004', b'"deadline",' + retry))) is not None


def test_what_does_not_follow_is_no_difference_but_a_bad_recording() -> None:
    tape = Tape()
    tape.submit(0.0, 1)
    tape.done(5.0)
    without = b"\n".join(line for line in tape.data().splitlines() if b'"submit"' not in line)
    with pytest.raises(BadRecording, match=r"the event at 0\.005 cannot be replayed"):
        first_difference(read(without))
    twice = tape.data() + tape.data().splitlines()[2]
    with pytest.raises(BadRecording, match="does not follow from those before it"):
        first_difference(read(twice))


def test_a_state_of_another_ferry_is_refused() -> None:
    world = RecordedWorld(3, chunk_bytes=3000)
    world.run()
    data = b"".join(line for line in GOLDEN.splitlines(keepends=True)[:1])
    data += world.ring.chunks()[1].pieces().__next__().replace(b'"Lane"', b'"Canal"')
    with pytest.raises(BadRecording, match="use the ferry that wrote it"):
        first_difference(read(data))
