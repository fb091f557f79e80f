from dataclasses import fields
from typing import Any, get_args

import orjson
import pytest

from server.core.events import (
    Action,
    Answer,
    Cancel,
    Closed,
    Drain,
    Event,
    Fail,
    InstanceLost,
    InstanceUp,
    Open,
    Refuse,
    Run,
    StepDone,
    StepFailed,
    Submit,
    Wake,
)  # fmt: skip
from server.core.types import Batch, Close, Failure, InferRequest, Limits, Mixing, ModelKey, Refusal
from server.recording.facts import LONGEST_TEXT, Known, action_facts, event_facts, read_request, request_facts
from tests.server.core.build import costs

MODEL = ModelKey("m", 2, 7)
REQUEST: InferRequest[None] = InferRequest(5, MODEL, 3, 17, 1.25, 1.5, None, -1)
OTHER: InferRequest[None] = InferRequest(6, MODEL, 1, 4, 1.25, 1.5, None)
BATCH: Batch[None] = Batch(9, MODEL, (REQUEST, OTHER), 4, 17, 1.3, Close.KNEE)
TABLE = costs()

EVENTS: list[Event[None]] = [
    Open(MODEL, Limits(8, 100, 1), Mixing.PADDED, TABLE, "cpu"),
    Submit(MODEL, (REQUEST, OTHER)),
    Cancel(REQUEST),
    StepDone(BATCH, 1.31),
    StepFailed(BATCH, "boom"),
    InstanceUp(MODEL),
    InstanceLost(MODEL, BATCH, "gone"),
    InstanceLost(MODEL, None, "gone"),
    Drain(MODEL),
    Wake(),
]
ACTIONS: list[Action[None]] = [
    Run(BATCH),
    Answer(BATCH, BATCH.requests),
    Answer(BATCH, (OTHER,)),
    Refuse(REQUEST, Refusal.QUEUE_FULL, 0.25),
    Fail(REQUEST, Failure.MODEL, "boom"),
    Closed(MODEL),
]
FACTS: list[list[Any]] = [
    ["run", 9, [5, 6], 4, 17, "knee"],
    ["answer", 9, None],
    ["answer", 9, [6]],
    ["refuse", 5, "queue_full", 0.25],
    ["fail", 5, "model_error", "boom"],
    ["closed", ["m", 2, 7]],
]


def kinds(union: object) -> set[str]:
    return {getattr(one, "__origin__", one).__name__ for one in get_args(union)}


def from_json(facts: object) -> Any:
    return orjson.loads(orjson.dumps(facts))


def test_the_examples_here_are_of_every_kind() -> None:
    assert {type(event).__name__ for event in EVENTS} == kinds(Event)
    assert {type(action).__name__ for action in ACTIONS} == kinds(Action)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_comes_back_from_its_facts_with_everything_that_it_holds(event: Event[None]) -> None:
    known = Known()
    known.requests[REQUEST.id] = REQUEST
    known.batches[BATCH.id] = BATCH
    again = known.event(from_json(event_facts(event)))
    assert type(again) is type(event)
    for field in fields(event):
        told, kept = getattr(again, field.name), getattr(event, field.name)
        if field.name == "requests":
            assert [repr(one) for one in told] == [repr(one) for one in kept]
        elif field.name == "costs":
            assert [told.line(0), told.max_rows, told.profile] == [kept.line(0), kept.max_rows, kept.profile]
        else:
            assert told == kept


def test_a_request_comes_back_with_everything_but_its_payload() -> None:
    again = read_request(MODEL, from_json(request_facts(REQUEST)))
    assert [getattr(again, field.name) for field in fields(again)] == [getattr(REQUEST, field.name) for field in fields(again)]
    assert all(getattr(OTHER, field.name) != getattr(REQUEST, field.name) or field.name in SAME for field in fields(again)), (
        "a new field must be recorded: give the two requests above different values"
    )


SAME = ("model", "arrived_at", "deadline_at", "payload")


@pytest.mark.parametrize(
    ("action", "facts"),
    list(zip(ACTIONS, FACTS, strict=True)),
)
def test_a_decision_as_facts(action: Action[None], facts: list[Any]) -> None:
    assert from_json(action_facts(action)) == facts


def test_texts_are_cut_and_can_be_written_whatever_is_in_them() -> None:
    facts = event_facts(StepFailed(BATCH, "\udc80" + 1000 * "x"))
    assert facts[2] == "?" + (LONGEST_TEXT - 1) * "x"
    orjson.dumps(facts)


def test_a_cancelled_request_that_is_not_known_any_more_is_made_from_its_facts() -> None:
    event = Known().event(from_json(event_facts(Cancel(REQUEST))))
    assert isinstance(event, Cancel)
    assert repr(event.request) == repr(REQUEST)


@pytest.mark.parametrize("facts", [["earthquake", 1], ["submit"], ["step_done", 9, None], ["drain", 5], []])
def test_what_is_no_event_is_refused(facts: list[Any]) -> None:
    with pytest.raises((ValueError, TypeError, LookupError)):
        Known().event(facts)


def test_requests_and_batches_are_forgotten_with_their_outcome() -> None:
    known = Known()
    known.note(Submit(MODEL, (REQUEST, OTHER)), [Run(BATCH)])
    known.note(StepDone(BATCH, None), [Answer(BATCH, (REQUEST,))])
    assert not known.requests
    assert not known.batches
    known.note(Submit(MODEL, (REQUEST, OTHER)), [Refuse(REQUEST, Refusal.DEADLINE, None), Fail(OTHER, Failure.MODEL, "boom")])
    assert not known.requests
