from dataclasses import fields
from typing import Any, get_args

import orjson
import pytest

from server.core.costs import CostTable, Unmeasured
from server.core.events import (
    Action,
    Answer,
    Cancel,
    Closed,
    Drain,
    Emit,
    Event,
    Fail,
    InstanceLost,
    InstanceUp,
    Iterate,
    IterationDone,
    IterationFailed,
    Open,
    OpenResident,
    Recost,
    Refuse,
    Release,
    Run,
    StepDone,
    StepFailed,
    Submit,
    Wake,
)  # fmt: skip
from server.core.sketch import Drawn
from server.core.types import (
    Batch,
    Chunk,
    Close,
    Failure,
    GenerateRequest,
    InferRequest,
    Iteration,
    Limits,
    Mixing,
    ModelKey,
    Refusal,
    ResidentLimits,
)
from server.recording.facts import LONGEST_TEXT, action_facts, costs_facts, event_facts, request_facts
from server.recording.known import Known, read_request
from tests.server.core.build import STEPS, costs

MODEL = ModelKey("m", 2, 7)
REQUEST: InferRequest[None] = InferRequest(5, MODEL, 3, 17, 1.25, 1.5, None, -1)
OTHER: InferRequest[None] = InferRequest(6, MODEL, 1, 4, 1.25, 1.5, None)
BATCH: Batch[None] = Batch(9, MODEL, (REQUEST, OTHER), 4, 17, 1.3, Close.KNEE)
TABLE = costs()
PROMPT: GenerateRequest[None] = GenerateRequest(7, MODEL, 1, 50, 1.25, 1.5, None, -1, new_tokens=9)
OTHER_PROMPT: GenerateRequest[None] = GenerateRequest(8, MODEL, 1, 100, 1.25, 1.5, None, new_tokens=20)
STEP: Iteration[None] = Iteration(10, MODEL, 3, (PROMPT,), (Chunk(OTHER_PROMPT, 64, 100),), 55, 1.3)

EVENTS: list[Event[None]] = [
    Open(MODEL, Limits(8, 100, 1), Mixing.PADDED, TABLE, "cpu"),
    Submit(MODEL, (REQUEST, OTHER)),
    Cancel(REQUEST),
    StepDone(BATCH, 1.31),
    StepFailed(BATCH, "boom"),
    InstanceUp(MODEL),
    InstanceLost(MODEL, BATCH, "gone"),
    InstanceLost(MODEL, None, "gone"),
    InstanceLost(MODEL, None, "gone", 3),
    Drain(MODEL),
    Wake(),
    Open(MODEL, Limits(8, 100, 1), Mixing.ANY, Unmeasured(8, 64)),
    Recost(MODEL, Limits(8, 90, 1), TABLE),
    Recost(MODEL, Limits(8, 90, 1), CostTable(Drawn(64, (2, 3), (0.1, 0.2, 0.0, 0.4), 0.05), 8)),
    Recost(MODEL, Limits(8, 90, 1), CostTable(TABLE.law, 8, brief_s=0.3)),
    OpenResident(MODEL, ResidentLimits(4, 1000, 500, 256, 100, 0.02), STEPS, "cpu"),
    Submit(MODEL, (PROMPT, OTHER_PROMPT)),
    IterationDone(STEP, (PROMPT,), 1.33),
    IterationDone(STEP, (), None, {8: 64}),
    IterationFailed(STEP, "boom"),
    InstanceUp(MODEL, 3),
]
ACTIONS: list[Action[None]] = [
    Run(BATCH),
    Answer(BATCH, BATCH.requests),
    Answer(BATCH, (OTHER,)),
    Refuse(REQUEST, Refusal.QUEUE_FULL, 0.25),
    Fail(REQUEST, Failure.MODEL, "boom"),
    Closed(MODEL),
    Iterate(STEP),
    Iterate(STEP, may_go_on=True),
    Emit(STEP, (PROMPT, OTHER_PROMPT), (PROMPT,)),
    Release(MODEL, 3, (PROMPT,)),
]
FACTS: list[list[Any]] = [
    ["run", 9, [5, 6], 4, 17, "knee"],
    ["answer", 9, None],
    ["answer", 9, [6]],
    ["refuse", 5, "queue_full", 0.25],
    ["fail", 5, "model_error", "boom"],
    ["closed", ["m", 2, 7]],
    ["iterate", 10, 3, [7], [[8, 64, 100]], 55, False],
    ["iterate", 10, 3, [7], [[8, 64, 100]], 55, True],
    ["emit", 10, [7, 8], [7]],
    ["release", ["m", 2, 7], 3, [7]],
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
    known.requests[PROMPT.id] = PROMPT
    known.batches[BATCH.id] = BATCH
    known.iterations[STEP.id] = STEP
    again = known.event(from_json(event_facts(event)))
    assert type(again) is type(event)
    for field in fields(event):
        told, kept = getattr(again, field.name), getattr(event, field.name)
        if field.name == "requests":
            assert [repr(one) for one in told] == [repr(one) for one in kept]
        elif field.name == "costs" and isinstance(kept, CostTable):
            assert [told.line(0), told.max_rows, told.law] == [kept.line(0), kept.max_rows, kept.law]
        else:
            assert told == kept


@pytest.mark.parametrize(("request_", "other"), [(REQUEST, OTHER), (PROMPT, OTHER_PROMPT)])
def test_a_request_comes_back_with_everything_but_its_payload(request_: InferRequest[None], other: InferRequest[None]) -> None:
    again = read_request(MODEL, from_json(request_facts(request_)))
    assert type(again) is type(request_)
    names = [field.name for field in fields(again)]
    assert [getattr(again, name) for name in names] == [getattr(request_, name) for name in names]
    same = (*SAME, "rows") if isinstance(other, GenerateRequest) else SAME
    assert all(getattr(other, name) != getattr(request_, name) or name in same for name in names), (
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


def test_a_submitted_request_for_a_single_step_cannot_end_a_step_of_many() -> None:
    known = Known()
    known.note(Submit(MODEL, (REQUEST,)), [Iterate(STEP)])
    with pytest.raises(ValueError, match="takes one step only"):
        known.event(["iteration_done", STEP.id, [REQUEST.id], None])


def test_residents_and_steps_are_forgotten_when_they_have_ended() -> None:
    known = Known()
    known.note(Submit(MODEL, (PROMPT, OTHER_PROMPT)), [Iterate(STEP)])
    known.note(IterationDone(STEP, (PROMPT,)), [Release(MODEL, 3, (PROMPT,)), Emit(STEP, (PROMPT,), (PROMPT,))])
    assert list(known.requests) == [OTHER_PROMPT.id]
    assert not known.iterations
    known.note(Submit(MODEL, ()), [Iterate(STEP)])
    known.note(InstanceLost(MODEL, None, "gone", 2), [])
    assert known.iterations
    known.note(InstanceLost(MODEL, None, "gone", 3), [Fail(OTHER_PROMPT, Failure.INSTANCE_LOST, "gone")])
    assert not known.iterations
    assert not known.requests


def test_costs_of_an_unknown_kind_are_refused_not_forgotten() -> None:
    with pytest.raises(TypeError, match="costs of the kind object are nothing that a recording can hold"):
        costs_facts(object())  # type: ignore[arg-type]
