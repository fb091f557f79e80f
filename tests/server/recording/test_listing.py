import pytest

from server.core.events import Cancel
from server.recording.file import BadRecording, read
from server.recording.listing import Which, listed
from server.recording.ring import Ring
from server.recording.telling import list_lines
from tests.server.recording.build import HEADER, Tape


def a_bad_day() -> Tape:
    tape = Tape()
    tape.submit(0.0, 1)
    tape.ring = Ring(tape.scheduler)
    tape.submit(1.0, 2, deadline_ms=20.0)
    tape.submit(1.0, 3, deadline_ms=25.0)
    tape.submit(1.0, 4, deadline_ms=3.0)
    (gone,) = tape.submit(1.0, 5)
    tape.feed(2.0, Cancel(gone))
    tape.done(5.0)
    tape.done(40.0)
    tape.ring.name(3, "order-17")
    return tape


def numbers(which: Which, most: int = 10) -> tuple[list[int], int]:
    found, n_all = listed(a_bad_day().recording(), which, most)
    return [one.request.id for one in found], n_all


def test_the_worst_come_first() -> None:
    assert numbers(Which.LATE) == ([2, 3], 2)
    assert numbers(Which.SLOW) == ([2, 3, 1], 3)
    assert numbers(Which.REFUSED) == ([4], 1)


def test_no_more_are_given_than_were_asked_for_but_all_are_counted() -> None:
    assert numbers(Which.SLOW, most=1) == ([2], 3)


def test_a_decision_about_who_is_not_known_is_a_bad_recording() -> None:
    data = a_bad_day().data().replace(b'"refuse",4,', b'"refuse",44,')
    with pytest.raises(BadRecording, match="request or batch that is not known: 44"):
        listed(read(data), Which.SLOW, 1)


def test_the_table() -> None:
    recording = a_bad_day().recording()
    late, _ = listed(recording, Which.LATE, 10)
    refused, _ = listed(recording, Which.REFUSED, 10)
    assert list(list_lines(HEADER, recording.names, late + refused)) == [
        "     request  arrived (UTC)  model                     latency            deadline  name",
        "           2  22:11:40.001   m/1                       39.0 ms        19.5 ms LATE",
        "           3  22:11:40.001   m/1                       39.0 ms        14.5 ms LATE  'order-17'",
        "           4  22:11:40.001   m/1                       0.00 ms   refused: deadline",
    ]
