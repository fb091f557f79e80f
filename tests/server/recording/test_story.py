"""What `ferry explain` finds, and how it tells it."""

from __future__ import annotations

import pytest

from server.core.events import Cancel, Drain, InstanceLost, InstanceUp, Open, StepFailed, Submit, Wake
from server.core.types import Close, InferRequest, Limits, Mixing, ModelKey
from server.recording.file import Recording
from server.recording.ring import Ring
from server.recording.story import End, NotThere, Story, numbers_of, tell
from server.recording.telling import WHY_CLOSED, story_lines, why
from tests.server.core.build import KEY, costs
from tests.server.recording.build import HEADER, Tape


def told(recording: Recording, number: int) -> tuple[Story, str, str]:
    """The story, its text, and its last sentence."""
    story = tell(recording, number)
    return story, "\n".join(story_lines(story, recording.header)), why(story, HEADER)


def test_a_request_that_was_answered_in_time() -> None:
    tape = Tape()
    tape.submit(10.0, 1, 2, deadline_ms=60.0)
    tape.submit(11.0, 3, deadline_ms=61.0)
    tape.done(16.0)
    tape.done(21.0)
    tape.ring.name(3, "order-17")
    recording = tape.recording()
    assert numbers_of(recording, "order-17") == numbers_of(recording, "#3") == [3]
    story, text, _ = told(recording, 3)
    assert story.end is End.ANSWERED
    assert text.splitlines() == [
        "request 3 'order-17': 1 row for m/1",
        "      +0.00 ms  arrived (2023-11-14 22:11:40.011 UTC); answer wanted within 50.5 ms, so its batch must end by +50.00 ms: 0.50 ms are "
        "kept for the reply",
        "      +0.00 ms  reached the scheduler; 0 requests waited (0 rows), no instance was expected to be free before 5.0 ms",
        "      +0.00 ms  predicted: 0.00 ms of work before it, 5.0 ms for its batch, so the end at +10.00 ms, 40.0 ms before the deadline: "
        "admitted",
        "      +5.00 ms  batch 2 formed alone: 1 row; 0 were left waiting. Closed: idle (everything that waited was in it)",
        "                before it: batch 1, 2 rows, took 6.0 ms, 6.0 ms predicted (1.00 times), ended +5.00 ms",
        "     +10.00 ms  batch 2 ended: took 5.0 ms, 5.0 ms predicted (1.00 times)",
        "     +10.00 ms  answered, 40.5 ms before the end of the time allowed",
        "why: in time, 40.5 ms were left.",
    ]


def test_late_because_its_own_batch_took_longer() -> None:
    tape = Tape()
    tape.submit(0.0, 1, deadline_ms=20.0)
    tape.done(33.0)
    story, text, reason = told(tape.recording(), 1)
    assert story.end is End.ANSWERED
    assert "answered, 12.5 ms AFTER the end of the time allowed" in text
    assert reason.startswith("12.5 ms late: its own batch took 28.0 ms longer than predicted (33.0 ms instead of 5.0 ms).")


def test_late_because_no_instance_took_its_batch_up() -> None:
    tape = Tape()
    tape.submit(0.0, 1, deadline_ms=20.0)
    tape.done(33.0, began_ms=28.0)
    _, text, reason = told(tape.recording(), 1)
    assert "of which 28.0 ms until an instance took it up" in text
    assert reason.startswith("12.5 ms late: an instance took its batch up only 28.0 ms after it was formed.")


def test_late_because_the_batch_before_took_longer() -> None:
    tape = Tape()
    tape.submit(0.0, 1)
    tape.submit(1.0, 2, deadline_ms=30.0)
    tape.done(22.0)
    tape.done(32.0)
    _, _, reason = told(tape.recording(), 2)
    assert reason == (
        "1.5 ms late: its batch began 17.0 ms later than predicted when it came. The most, 17.0 ms, came from batch 1: took 22.0 ms, "
        "5.0 ms predicted (4.40 times)."
    )


def test_refused_because_even_alone_it_takes_too_long() -> None:
    tape = Tape()
    tape.submit(0.0, 1, deadline_ms=3.0)
    story, _, reason = told(tape.recording(), 1)
    assert (story.end, story.retry_after_s) == (End.REFUSED, None)
    assert reason.startswith("even alone and at once its batch takes 5.0 ms, and 3.0 ms were left of the 3.5 ms allowed.")


def test_refused_because_it_was_predicted_to_be_late_behind_those_that_came_with_it() -> None:
    tape = Tape(costs(max_rows=1))
    tape.submit(0.0, 1)
    tape.submit(1.0, 2, 3, deadline_ms=12.0)
    first, _, _ = told(tape.recording(), 2)
    assert first.end is End.OPEN
    story, text, reason = told(tape.recording(), 3)
    assert story.admission is not None
    assert story.admission.n_waiting == 1
    assert "after the deadline: refused" in text
    assert "refused: deadline, to be tried again in 3.0 ms" in text
    assert reason.startswith(
        "it would have been 3.0 ms late: 4.0 ms until an instance is free, 5.0 ms of work before it, 5.0 ms for its batch, and only 11.0 ms left."
    )


def test_refused_because_the_queue_was_full() -> None:
    tape = Tape(queue_rows=2)
    tape.submit(0.0, 1)
    tape.submit(1.0, 2, 3, 4)
    _, _, reason = told(tape.recording(), 4)
    assert reason.startswith("2 rows waited and with its 1 row there would have been more than the limit of 2")


def test_refused_because_the_model_was_unloaded() -> None:
    tape = Tape()
    tape.submit(0.0, 1)
    tape.feed(1.0, Drain(KEY))
    tape.submit(2.0, 2)
    tape.done(5.0)
    tape.submit(6.0, 3)
    for number in (2, 3):
        assert told(tape.recording(), number)[2].startswith("its model was being unloaded")


def test_refused_later_because_the_batch_before_took_too_long() -> None:
    tape = Tape()
    tape.submit(0.0, 1)
    tape.submit(1.0, 2, deadline_ms=30.0)
    tape.feed(25.0, Wake())
    story, text, reason = told(tape.recording(), 2)
    assert story.was_hopeless
    assert "+24.00 ms  refused: deadline" in text
    assert reason.startswith(
        "it was admitted, waited 24.0 ms where 4.0 ms were predicted, and then even a batch of its own could not end in time."
    )


def test_given_up_for_a_full_batch() -> None:
    tape = Tape(costs(alpha_ms=1.0, beta_ms=10.0))
    tape.submit(0.0, 1)
    tape.submit(1.0, 2, deadline_ms=30.0)
    tape.submit(1.0, *range(3, 11), deadline_ms=38.0)
    tape.done(18.0)
    story, _, reason = told(tape.recording(), 2)
    assert story.end is End.REFUSED
    assert not story.was_hopeless
    assert "and then its deadline left room for a small batch only" in reason


def test_failed_alone_after_its_batch_had_failed() -> None:
    tape = Tape()
    tape.submit(0.0, 1, 2)
    for at_ms in (6.0, 12.0):
        tape.feed(at_ms, StepFailed(tape.batches.pop(0), "a bad number"))
    story, text, reason = told(tape.recording(), 1)
    assert [ride.batch.close for ride in story.rides] == [Close.IDLE, Close.ALONE]
    assert "batch 1 failed (a bad number): took" in text
    assert reason.startswith("the model failed on this very request (a bad number)")


def test_failed_with_its_instance() -> None:
    tape = Tape()
    tape.submit(0.0, 1)
    tape.feed(3.0, InstanceLost(KEY, tape.batches.pop(0), "out of memory"))
    story, text, reason = told(tape.recording(), 1)
    assert story.end is End.FAILED
    assert "batch 1 failed (out of memory): took 3.0 ms" in text
    assert reason.startswith("the instance that ran its batch died (out of memory).")


def test_cancelled() -> None:
    tape = Tape()
    tape.submit(0.0, 1)
    (second,) = tape.submit(1.0, 2)
    tape.feed(3.0, Cancel(second))
    story, _, reason = told(tape.recording(), 2)
    assert story.end is End.CANCELLED
    assert reason.startswith("its client went away")


def test_padded_and_ahead() -> None:
    tape = Tape(costs(alpha_ms=0.01, beta_ms=4.0, max_rows=2, lengths=(1, 100)), Mixing.PADDED, ahead=1)
    tape.submit(0.0, 1, 2, length=50)
    tape.submit(1.0, 3, length=90)
    tape.submit(1.0, 4, length=100)
    tape.feed(4.5, Wake())
    tape.done(6.0)
    tape.done(12.0, began_ms=6.0)
    story, text, _ = told(tape.recording(), 3)
    assert story.rides[0].is_ahead
    assert "batch 2 formed with 1 other, ahead of a free instance: 2 rows, padded from 90 to 100;" in text
    assert "batch 2 ended: took 6.0 ms, 6.0 ms predicted" in text


def test_batches_of_a_neighbour_on_the_device_are_told() -> None:
    neighbour = ModelKey("neighbour", 1)
    tape = Tape()
    tape.scheduler = type(tape.scheduler)()
    tape.ring = Ring(tape.scheduler)
    for model in (KEY, neighbour):
        tape.feed(0.0, Open(model, Limits(8, 100), Mixing.ANY, costs(), "cpu"))
        tape.feed(0.0, InstanceUp(model))
    for number in range(1, 7):
        deadline_at = 0.1 + number * 0.001
        tape.feed(0.1 * number, Submit(neighbour, (InferRequest(number, neighbour, 8, 0, 0.0, deadline_at, "payload"),)))
    tape.submit(1.0, 9, deadline_ms=500.0)
    for number in range(6):
        tape.done(12.0 * (number + 1))
    tape.done(90.0)
    _, text, _ = told(tape.recording(), 9)
    assert "before it: batch" in text
    assert "of neighbour/1, 8 rows, took 12.0 ms" in text


def test_a_request_that_came_before_the_recording_began() -> None:
    tape = Tape()
    tape.submit(0.0, 1)
    tape.submit(1.0, 2, 3)
    tape.ring = Ring(tape.scheduler)
    tape.done(5.0)
    tape.done(11.0)
    recording = tape.recording()
    for number in (1, 2):
        story, text, _ = told(recording, number)
        assert story.end is End.ANSWERED
        assert len(story.rides) == 1
        assert "how it was admitted is not in the recording" in text


def test_late_or_refused_before_the_recording_began_is_told_as_far_as_it_is_known() -> None:
    tape = Tape()
    tape.submit(0.0, 1, deadline_ms=20.0)
    tape.submit(1.0, 2, deadline_ms=30.0)
    tape.ring = Ring(tape.scheduler)
    tape.feed(26.0, Wake())
    tape.done(28.0)
    assert told(tape.recording(), 1)[2] == "7.5 ms late; its batch took 28.0 ms, 5.0 ms were predicted."
    assert told(tape.recording(), 2)[2] == "deadline; what the scheduler reckoned with is not in the recording."


def test_a_request_in_a_later_part_is_found_from_there() -> None:
    tape = Tape(chunk_bytes=1500)
    for number in range(1, 30):
        tape.submit(6.0 * number, number)
        tape.done(6.0 * number + 5)
    recording = tape.recording()
    assert len(recording.parts) > 2
    assert told(recording, 29)[0].end is End.ANSWERED


def test_who_is_not_there_is_told_what_is() -> None:
    tape = Tape()
    tape.submit(0.0, 5, 6, 7)
    tape.ring.name(9, "a text")
    recording = tape.recording()
    with pytest.raises(NotThere, match=r"request 9 \('a text'\) did not reach the scheduler"):
        tell(recording, 9)
    with pytest.raises(NotThere, match="request 8 is not in this recording, which has requests 5 to 7"):
        tell(recording, 8)
    with pytest.raises(NotThere, match="no request in this recording has the id 'order-17'"):
        numbers_of(recording, "order-17")


def test_every_reason_to_close_a_batch_has_its_words() -> None:
    assert set(WHY_CLOSED) == set(Close)
