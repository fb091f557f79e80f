"""The scheduler's decisions, event by event, in virtual milliseconds. l(b) = b + 4 ms, at most 8 rows."""

from __future__ import annotations

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
from server.core.scheduler import Scheduler
from server.core.types import Batch, Limits, Mixing, ModelKey
from tests.server.core.build import KEY, MS, Request, costs, ids, request

OTHER = ModelKey("n", 1)


def shown(action: Action[str]) -> str:
    match action:
        case Run(batch):
            return f"run {batch!r}"
        case Answer(batch, requests):
            return f"answer {','.join(map(str, ids(requests)))} from {batch.id}"
        case Refuse(one, why, retry_after_s):
            return f"refuse {one.id}: {why.value}" + ("" if retry_after_s is None else f", retry {retry_after_s / MS:.1f} ms")
        case Fail(one, why, detail):
            return f"fail {one.id}: {why.value} ({detail})"
        case Closed(model):
            return f"closed {model}"


class Play:
    """A scheduler with a memory of the batches that it started."""

    def __init__(self, instances: int = 1, mixing: Mixing = Mixing.ANY, queue_rows: int = 100) -> None:
        self.scheduler: Scheduler[str] = Scheduler()
        self.batches: dict[int, Batch[str]] = {}
        self.open(KEY, instances, mixing, queue_rows)

    def open(self, model: ModelKey, instances: int = 1, mixing: Mixing = Mixing.ANY, queue_rows: int = 100) -> None:
        self.at(0, Open(model, Limits(8, queue_rows), mixing, costs()))
        for _ in range(instances):
            self.at(0, InstanceUp(model))

    def at(self, now_ms: float, event: Event[str]) -> list[str]:
        actions = self.scheduler.handle(event, now_ms * MS)
        self.batches.update((action.batch.id, action.batch) for action in actions if isinstance(action, Run))
        return [shown(action) for action in actions]

    def submit(self, now_ms: float, *requests: Request) -> list[str]:
        return self.at(now_ms, Submit(requests[0].model, requests))

    def done(self, now_ms: float, batch: int) -> list[str]:
        return self.at(now_ms, StepDone(self.batches[batch]))

    def failed(self, now_ms: float, batch: int) -> list[str]:
        return self.at(now_ms, StepFailed(self.batches[batch], "boom"))


def test_repr_shows_every_lane() -> None:
    assert repr(Scheduler[str]()) == "<Scheduler empty>"
    assert repr(Play().scheduler) == "<Scheduler <m/1 idle 1, running 0, <0 waiting, 0 rows, 0.000000 s>, pace 1.00>>"


def test_an_idle_instance_takes_what_comes_at_once() -> None:
    play = Play()
    assert play.submit(1, request(1), request(2)) == ["run <batch 1: 1,2 (2x0, idle)>"]
    assert play.scheduler.next_wakeup() is None


def test_the_next_batch_forms_while_the_device_is_busy_and_starts_before_the_answers() -> None:
    play = Play()
    play.submit(0, request(1))
    assert play.submit(1, request(2)) == []
    assert play.submit(2, request(3)) == []
    assert play.done(5, 1) == ["run <batch 2: 2,3 (2x0, idle)>", "answer 1 from 1"]


def test_the_more_urgent_go_first() -> None:
    play = Play()
    play.submit(0, request(1))
    play.submit(0, *(request(number, 100 - number) for number in range(2, 12)))
    assert play.done(5, 1)[0] == "run <batch 2: 11,10,9,8,7,6,5,4 (8x0, full)>"


def test_late_requests_are_refused_at_the_door() -> None:
    play = Play(queue_rows=1)
    assert play.submit(0, request(1, 4.9), request(2)) == ["run <batch 1: 2 (1x0, idle)>", "refuse 1: deadline"]
    assert play.submit(1, request(3), request(4)) == ["refuse 4: queue_full, retry 5.5 ms"]
    assert play.submit(1, request(5, 8)) == ["refuse 5: queue_full, retry 5.5 ms"]


def test_requests_of_a_model_that_is_not_open_are_refused() -> None:
    play = Play()
    assert play.submit(0, request(1, model=OTHER)) == ["refuse 1: draining"]
    assert play.at(0, Cancel(request(1, model=OTHER))) == []


def test_a_wakeup_refuses_what_became_hopeless() -> None:
    play = Play()
    play.submit(0, request(1))
    play.submit(0, request(2, 11), request(3, 20))
    assert play.scheduler.next_wakeup() == pytest.approx(6 * MS)
    assert play.at(5.9, Wake()) == []
    now_ms = play.scheduler.next_wakeup() / MS  # type: ignore[operator]
    assert play.at(now_ms, Wake()) == ["refuse 2: deadline, retry 1.5 ms"]
    assert play.scheduler.next_wakeup() == pytest.approx(15 * MS)


def test_what_cannot_end_in_time_any_more_is_refused_when_an_instance_comes_free() -> None:
    play = Play()
    play.submit(0, request(1))
    play.submit(0, request(2, 11), request(3, 30))
    assert play.done(7, 1) == ["refuse 2: deadline, retry 2.1 ms", "run <batch 2: 3 (1x0, idle)>", "answer 1 from 1"]
    play.submit(8, request(4, 24))
    assert play.done(20, 2) == ["refuse 4: deadline, retry 0.0 ms", "answer 3 from 2"]


def test_a_head_that_would_shrink_the_batch_is_refused() -> None:
    play = Play()
    play.submit(0, request(1))
    play.submit(0, request(2, 12), *(request(number, 20) for number in range(3, 10)))
    assert play.done(6, 1)[:2] == [
        "refuse 2: deadline, retry 12.6 ms", "run <batch 2: 3,4,5,6,7,8,9 (7x0, idle)>"
    ]  # fmt: skip


def test_a_cancelled_request_leaves_the_queue_or_its_running_batch() -> None:
    play = Play()
    first, second, third = request(1), request(2), request(3)
    play.submit(0, first, second)
    play.submit(0, third)
    assert play.at(1, Cancel(first)) == []
    assert play.at(1, Cancel(third)) == []
    assert play.done(6, 1) == ["answer 2 from 1"]
    assert play.at(7, Cancel(second)) == [], "harmless after the outcome"


def test_a_batch_that_nobody_wants_any_more_still_frees_its_instance() -> None:
    play = Play()
    one = request(1)
    play.submit(0, one)
    play.at(1, Cancel(one))
    assert play.done(5, 1) == ["answer  from 1"]
    assert play.submit(5, request(2)) == ["run <batch 2: 2 (1x0, idle)>"]


def test_the_requests_of_a_failed_batch_run_again_alone_and_only_the_culprit_fails() -> None:
    play = Play()
    play.submit(0, request(1, 100), request(2, 101))
    play.submit(1, request(3, 102), request(4, 103))
    assert play.failed(6, 1) == ["run <batch 2: 1 (1x0, alone)>"]
    assert play.failed(11, 2) == ["run <batch 3: 2 (1x0, alone)>", "fail 1: model_error (boom)"]
    assert play.done(16, 3) == ["run <batch 4: 3,4 (2x0, idle)>", "answer 2 from 3"]


def test_a_failed_batch_has_no_second_try_for_who_left() -> None:
    play = Play()
    first, second = request(1), request(2)
    play.submit(0, first, second)
    play.at(1, Cancel(first))
    assert play.failed(6, 1) == ["run <batch 2: 2 (1x0, alone)>"]
    play.at(7, Cancel(second))
    assert play.failed(11, 2) == []


def test_a_lost_instance_fails_its_batch_only() -> None:
    play = Play()
    play.submit(0, request(1), request(2))
    play.submit(1, request(3))
    assert play.at(2, InstanceLost(KEY, play.batches[1], "gone")) == [
        "fail 1: instance_lost (gone)",
        "fail 2: instance_lost (gone)",
    ]
    assert play.at(3, InstanceUp(KEY)) == ["run <batch 2: 3 (1x0, idle)>"]


def test_a_lost_idle_instance_gets_no_more_batches() -> None:
    play = Play(instances=2)
    assert play.at(0, InstanceLost(KEY, None, "gone")) == []
    assert play.submit(0, request(1)) == ["run <batch 1: 1 (1x0, idle)>"]


def test_instances_share_one_queue() -> None:
    play = Play(instances=2)
    assert play.submit(0, request(1)) == ["run <batch 1: 1 (1x0, idle)>"]
    assert play.submit(0, request(2)) == ["run <batch 2: 2 (1x0, idle)>"]
    play.submit(0, request(3))
    assert play.done(4, 2) == ["run <batch 3: 3 (1x0, idle)>", "answer 2 from 2"]


def test_a_drain_answers_what_was_accepted_then_closes() -> None:
    play = Play()
    play.submit(0, request(1))
    play.submit(0, request(2))
    assert play.at(1, Drain(KEY)) == []
    assert play.submit(2, request(3)) == ["refuse 3: draining"]
    assert play.done(5, 1) == ["run <batch 2: 2 (1x0, idle)>", "answer 1 from 1"]
    assert play.done(10, 2) == ["answer 2 from 2", "closed m/1"]
    with pytest.raises(KeyError):
        play.scheduler.lane(KEY)


def test_an_empty_model_closes_at_once() -> None:
    assert Play().at(0, Drain(KEY)) == ["closed m/1"]


def test_a_drain_ends_however_its_last_request_does() -> None:
    def draining(*requests: Request) -> Play:
        play = Play()
        play.submit(0, *requests)
        play.at(1, Drain(KEY))
        return play

    one = request(1)
    assert draining(one).failed(5, 1) == ["fail 1: model_error (boom)", "closed m/1"]
    play = draining(one)
    assert play.at(2, InstanceLost(KEY, play.batches[1], "gone")) == ["fail 1: instance_lost (gone)", "closed m/1"]


def test_a_drain_without_instances_ends_by_cancel_wakeup_or_a_late_instance() -> None:
    def stranded() -> Play:
        play = Play(instances=0)
        play.submit(0, last)
        assert play.at(0, Drain(KEY)) == []
        return play

    last = request(1, 10)
    assert stranded().at(1, Cancel(last)) == ["closed m/1"]
    assert stranded().at(6, Wake()) == ["refuse 1: deadline, retry 0.0 ms", "closed m/1"]
    assert stranded().at(6, InstanceUp(KEY)) == ["refuse 1: deadline, retry 0.0 ms", "closed m/1"]


def test_a_model_is_opened_once() -> None:
    with pytest.raises(AssertionError, match="m/1 is open"):
        Play().open(KEY)


def test_models_do_not_disturb_each_other() -> None:
    play = Play()
    play.open(OTHER)
    play.submit(0, request(1), request(2, model=KEY))
    assert play.submit(0, request(3, model=OTHER)) == ["run <batch 2: 3 (1x0, idle)>"]
    play.submit(0, request(4, 30))
    play.submit(0, request(5, 20, model=OTHER))
    assert play.scheduler.next_wakeup() == pytest.approx(15 * MS)
    now_ms = play.scheduler.next_wakeup() / MS  # type: ignore[operator]
    assert play.at(now_ms, Wake()) == ["refuse 5: deadline, retry 0.0 ms"]
    assert play.scheduler.next_wakeup() == pytest.approx(25 * MS)
    assert play.at(20, Drain(OTHER)) == []
    assert play.done(20, 2) == ["answer 3 from 2", "closed n/1"]
    assert play.done(20, 1) == ["run <batch 3: 4 (1x0, idle)>", "answer 1,2 from 1"]


def test_a_pessimistic_forecast_does_not_lock_requests_out_for_ever() -> None:
    play = Play()
    play.scheduler.lane(KEY).forecast.ratio = 8.0
    for number in range(60):
        at_ms = 100.0 * number
        assert play.submit(at_ms, request(number, at_ms + 6)) != [], "the deadline is far below what is predicted"
        play.done(at_ms + 5, number + 1)
    assert play.scheduler.lane(KEY).forecast.ratio == pytest.approx(1.0, abs=0.02)
