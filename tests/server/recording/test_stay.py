"""What `ferry explain` finds and tells of a request that stays for many steps."""

from __future__ import annotations

from typing import Any

import pytest

from server.core.events import (
    Action,
    Cancel,
    Drain,
    Event,
    InstanceLost,
    InstanceUp,
    Iterate,
    IterationDone,
    IterationFailed,
    OpenResident,
    Submit,
)  # fmt: skip
from server.core.scheduler import Scheduler
from server.core.types import GenerateRequest, Iteration, Refusal, ResidentLimits
from server.recording.file import Recording, pieces, read
from server.recording.listing import Which, listed
from server.recording.replay import first_difference
from server.recording.ring import Ring
from server.recording.story import End, tell
from server.recording.telling import list_lines, story_lines
from server.recording.telling_stay import WHY_REFUSED
from tests.server.core.build import KEY, LIMITS, MS, STEPS, prompt
from tests.server.recording.build import HEADER


class Stream:
    """A scheduler with one instance of a generating model, and its recording."""

    def __init__(self, limits: ResidentLimits = LIMITS) -> None:
        self.scheduler: Scheduler[Any] = Scheduler()
        self.ring = Ring(self.scheduler)
        self.steps: list[Iteration[Any]] = []
        self.feed(0.0, OpenResident(KEY, limits, STEPS))
        self.feed(0.0, InstanceUp(KEY, 1))

    def feed(self, at_ms: float, event: Event[Any]) -> list[Action[Any]]:
        actions = self.scheduler.handle(event, at_ms * MS)
        self.ring.note(event, actions, at_ms * MS)
        self.steps += [action.iteration for action in actions if isinstance(action, Iterate)]
        return actions

    def submit(self, at_ms: float, *requests: GenerateRequest[Any]) -> None:
        self.feed(at_ms, Submit(KEY, requests))

    def done(self, at_ms: float, *ended: GenerateRequest[Any]) -> None:
        self.feed(at_ms, IterationDone(self.steps.pop(0), ended))

    def recording(self) -> Recording:
        recording = read(b"".join(pieces(HEADER, self.ring.chunks())))
        assert first_difference(recording) is None
        return recording


def text_of(recording: Recording, number: int) -> list[str]:
    return list(story_lines(tell(recording, number), HEADER))


def test_one_whose_prompt_was_known_in_part() -> None:
    stream = Stream()
    stream.submit(0.0, asked := prompt(1, deadline_ms=60.0, length=300, new_tokens=2))
    stream.feed(25.0, IterationDone(stream.steps.pop(0), (), None, {1: 64}))
    stream.done(30.0, asked)
    told = text_of(stream.recording(), 1)
    assert "      +0.00 ms  got a slot on instance 1; 64 tokens of its prompt were kept there from requests before" in told
    assert "      +0.00 ms  tokens 64 to 300 of its prompt in step 1" in told
    assert any("2 tokens" in line or "last token, of 2" in line for line in told)


def test_one_that_got_all_its_tokens() -> None:
    stream = Stream()
    asked = prompt(1, deadline_ms=60.0, length=300, new_tokens=3)
    other = prompt(2, length=100, deadline_ms=30.0, new_tokens=1)
    stream.submit(0.0, other, asked)
    stream.done(25.0, other)
    stream.done(47.0)
    stream.done(51.0)
    stream.done(54.0, asked)
    assert text_of(stream.recording(), 1) == [
        "request 1: a prompt of 300 tokens and up to 3 new ones for m/1",
        "      +0.00 ms  arrived (2023-11-14 22:11:40.000 UTC); first token wanted within 60.5 ms, so its prompt must be done by +60.00 ms: 0.50 ms are kept for the reply",
        "      +0.00 ms  reached the scheduler; 1 requests waited, 0 were resident",
        "      +0.00 ms  got a slot on instance 1",
        "      +0.00 ms  tokens 0 to 128 of its prompt in step 1",
        "     +25.00 ms  tokens 128 to 300 of its prompt in step 2",
        "     +47.00 ms  first token, 13.5 ms before the end of the time allowed",
        "     +54.00 ms  its last token, of 3",
        "why: its first token was in time, 13.5 ms were left. The longest time between two tokens was 4.0 ms.",
    ]


def test_first_token_too_late() -> None:
    stream = Stream(LIMITS._replace(slots=1))
    first, second = prompt(1, new_tokens=2), prompt(2, deadline_ms=40.0, new_tokens=2)
    stream.submit(0.0, first)
    stream.submit(1.0, second)
    stream.done(3.0)
    stream.done(30.0, first)
    stream.done(55.0)
    stream.done(57.0, second)
    recording = stream.recording()
    assert text_of(recording, 2)[-1] == (
        "why: its first token was 14.5 ms late: it waited 30.0 ms for its slot, and its prompt took 25.0 ms. The longest time between two "
        "tokens was 2.0 ms."
    )
    assert [one.request.id for one in listed(recording, Which.LATE, 9)[0]] == [2]
    assert [one.request.id for one in listed(recording, Which.SLOW, 9)[0]] == [2, 1]


@pytest.mark.parametrize(
    ("fields", "why"),
    [({"length": 499, "new_tokens": 50}, Refusal.TOO_LONG), ({"length": 50, "deadline_ms": 3.0}, Refusal.DEADLINE)],
)
def test_refused(fields: dict[str, Any], why: Refusal) -> None:
    stream = Stream()
    stream.submit(0.0, prompt(1, **fields))
    lines = text_of(stream.recording(), 1)
    assert lines[-2].endswith(f"refused: {why.value}")
    assert lines[-1] == f"why: {WHY_REFUSED[why]}"


def test_every_refusal_has_its_words() -> None:
    assert set(WHY_REFUSED) == set(Refusal)


def test_failed_alone_after_a_step_of_many_had_failed() -> None:
    stream = Stream()
    stream.submit(0.0, prompt(1), prompt(2))
    stream.feed(5.0, IterationFailed(stream.steps.pop(0), "a bad number"))
    stream.feed(9.0, IterationFailed(stream.steps.pop(0), "a bad number"))
    lines = text_of(stream.recording(), 1)
    assert "       +5.00 ms  step 1 failed (a bad number)"[1:] in lines
    assert lines[-1].startswith("why: the model failed on this very request (a bad number)")


def test_failed_with_its_instance_and_cancelled_and_not_ended() -> None:
    stream = Stream()
    one, two = prompt(1), prompt(2)
    stream.submit(0.0, one, two)
    stream.done(5.0)
    stream.feed(6.0, Cancel(two))
    assert text_of(stream.recording(), 1)[-1] == "why: it had not ended yet when the recording ended."
    stream.feed(7.0, InstanceLost(KEY, None, "gone", 1))
    recording = stream.recording()
    assert text_of(recording, 2)[-2:] == [
        "      +6.00 ms  cancelled, with 1 of its tokens",
        "why: its client went away; nobody waited for more tokens.",
    ]
    assert "the instance that it was resident on died (gone)" in text_of(recording, 1)[-1]


def test_of_one_that_was_there_before_the_recording_no_first_token_is_told() -> None:
    stream = Stream()
    one = prompt(1)
    stream.submit(0.0, one)
    stream.done(5.0)
    stream.ring = Ring(stream.scheduler)
    stream.done(9.0)
    stream.done(15.0, one)
    recording = stream.recording()
    lines = text_of(recording, 1)
    assert "how it was admitted is not in the recording" in lines[2]
    assert lines[-2].endswith("its last token, of 3")
    assert (
        lines[-1] == "why: when its first token came is not in the recording. The longest time between two tokens was 6.0 ms."
    )
    (ended,), _ = listed(recording, Which.SLOW, 9)
    assert ended.late_s is None
    assert "not known" in list(list_lines(HEADER, {}, [ended]))[1]
    assert not listed(recording, Which.LATE, 9)[0]


def test_one_whose_model_is_not_open() -> None:
    stream = Stream()
    stream.feed(1.0, Drain(KEY))
    stream.submit(2.0, prompt(1))
    story = tell(stream.recording(), 1)
    assert (story.end, story.why) == (End.REFUSED, "draining")
    assert "or its model was not open" in text_of(stream.recording(), 1)[2]
