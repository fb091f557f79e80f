"""Thousands of random worlds: the laws hold in all of them, and planted bugs are caught."""

from collections import Counter

import pytest

from server.core.device import Device
from server.core.events import Answer, Refuse, Run
from server.core.floors import Floors
from server.core.invariants import BrokenLaw, Outcome
from server.core.lane import Lane
from server.core.scheduler import Scheduler
from server.core.types import Close
from tests.sim.world import World

N_WORLDS = 3000


def play(seed: int) -> World:
    world = World(seed)
    try:
        world.run()
    except Exception as error:
        error.add_note(f"replay with World({seed}).run()")
        raise
    return world


def test_the_laws_hold_in_every_world() -> None:
    outcomes: Counter[Outcome] = Counter()
    closes: Counter[Close] = Counter()
    for seed in range(N_WORLDS):
        onlooker = play(seed).onlooker
        outcomes.update(onlooker.outcomes.values())
        closes.update(batch.close for batch in onlooker.batches)
    assert set(outcomes) == set(Outcome), "the worlds must reach every outcome"
    assert set(closes) == set(Close), "the worlds must reach every reason to close a batch"


def caught(n_worlds: int = 300) -> str:
    """The first broken law in the worlds, or a failure of the test."""
    for seed in range(n_worlds):
        try:
            World(seed).run()
        except BrokenLaw as law:
            return str(law)
    pytest.fail("the planted bug was not caught")


def test_catches_a_cancel_that_drops_batch_mates(monkeypatch: pytest.MonkeyPatch) -> None:
    def cancel(self, request):  # type: ignore[no-untyped-def]
        if not self.waiting.remove(request):
            for running in self.running.values():
                if request.id in running.wanted:
                    running.wanted.clear()

    monkeypatch.setattr(Lane, "cancel", cancel)
    assert "law" in caught()


def test_catches_answers_to_cancelled_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Lane, "cancel", lambda self, request: self.waiting.remove(request))
    assert "law 1" in caught()


def test_catches_a_failed_batch_retried_in_company(monkeypatch: pytest.MonkeyPatch) -> None:
    def retry(self, requests):  # type: ignore[no-untyped-def]
        for request in requests:
            self.waiting.add(request)

    monkeypatch.setattr(Lane, "retry_alone", retry)
    assert "must run alone" in caught()


def test_catches_late_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Lane, "latest_start", lambda self, request: request.deadline_at)
    assert "law 4" in caught()


def test_catches_a_livelock(monkeypatch: pytest.MonkeyPatch) -> None:
    handle = Scheduler.handle

    def deaf(self, event, now):  # type: ignore[no-untyped-def]
        actions = handle(self, event, now)
        for action in actions:
            if type(event).__name__ == "Wake" and isinstance(action, Refuse):
                self.lane(action.request.model).waiting.add(action.request)
        return actions

    monkeypatch.setattr(Scheduler, "handle", deaf)
    assert "law 2" in caught()


def test_catches_overtaking(monkeypatch: pytest.MonkeyPatch) -> None:
    first = Lane.choose

    def choose_last(self, now):  # type: ignore[no-untyped-def]
        choice = first(self, now)
        return choice._replace(requests=self.waiting.first(10_000)[-1:])

    monkeypatch.setattr(Lane, "choose", choose_last)
    assert "law 3" in caught()


def test_catches_answers_of_another_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    done = Scheduler._done

    def mixed_up(self, batch, began_at, now):  # type: ignore[no-untyped-def]
        actions = done(self, batch, began_at, now)
        runs = [action.batch for action in actions if isinstance(action, Run)]
        return [Answer(runs[0], a.requests) if isinstance(a, Answer) and runs else a for a in actions]

    monkeypatch.setattr(Scheduler, "_done", mixed_up)
    assert "results of" in caught()


def test_catches_an_overbooked_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Device, "has_room", lambda self, lane: True)
    assert "does not fit on its device" in caught()


def test_catches_a_low_priority_that_takes_more_than_its_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    def everything(self):  # type: ignore[no-untyped-def]
        lowest = list(self._waiting.heads())[-1].priority
        return self._waiting.first_of(lowest, self._batch_rows)

    monkeypatch.setattr(Floors, "owed", everything)
    assert "law 3" in caught()
