"""Random worlds with generating models: the laws hold in all of them, and planted bugs are caught."""

from collections import Counter

import pytest

from server.core.events import Emit, Iterate
from server.core.invariants import BrokenLaw, Outcome
from server.core.resident_lane import ResidentLane
from server.core.residents import Residents
from server.core.scheduler import Scheduler
from server.core.stepping import Plan
from tests.sim.resident_world import MixedWorld

N_WORLDS = 800


def test_the_laws_hold_in_every_world() -> None:
    outcomes: Counter[Outcome] = Counter()
    n_chunks = n_together = 0
    for seed in range(N_WORLDS):
        world = MixedWorld(seed)
        try:
            onlooker = world.run()
        except Exception as error:
            error.add_note(f"replay with MixedWorld({seed}).run()")
            raise
        outcomes.update(onlooker.outcomes[number] for number, one in onlooker.submitted.items() if one.model in world.decoders)
        n_chunks += sum(not chunk.is_last for step in onlooker.iterations for chunk in step.chunks)
        n_together += sum(bool(step.decode and step.chunks) for step in onlooker.iterations)
    assert set(outcomes) == set(Outcome), "the worlds must reach every outcome"
    assert min(outcomes.values()) > 500
    assert n_chunks > 1000, "and prompts in several chunks"
    assert n_together > 500, "and steps of both kinds"


def caught(n_worlds: int = 400) -> str:
    """The first broken law in the worlds, or a failure of the test."""
    for seed in range(n_worlds):
        try:
            MixedWorld(seed).run()
        except BrokenLaw as law:
            return str(law)
    pytest.fail("the planted bug was not caught")


def test_catches_a_resident_that_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    start = ResidentLane._start

    def forget_one(self, place, decode, plan, now, number):  # type: ignore[no-untyped-def]
        return start(self, place, decode[1:] if len(decode) > 1 else decode, plan, now, number)

    monkeypatch.setattr(ResidentLane, "_start", forget_one)
    assert "law 5" in caught()


def test_catches_a_cancelled_resident_that_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    cancel = ResidentLane.cancel

    def only_from_the_queue(self, request):  # type: ignore[no-untyped-def]
        return cancel(self, request) if not any(place.of(request) for place in self.places.values()) else []

    monkeypatch.setattr(ResidentLane, "cancel", only_from_the_queue)
    assert "law" in caught()


def test_catches_tokens_for_the_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    handle = Scheduler.handle

    def to_all(self, event, now):  # type: ignore[no-untyped-def]
        actions = handle(self, event, now)
        return [Emit(a.iteration, a.iteration.decode, a.ended) if isinstance(a, Emit) else a for a in actions]

    monkeypatch.setattr(Scheduler, "handle", to_all)
    assert "law 1: the tokens" in caught()


def test_catches_more_residents_than_room(monkeypatch: pytest.MonkeyPatch) -> None:
    join = Residents.join

    def for_free(self, request, n_likely):  # type: ignore[no-untyped-def]
        join(self, request, n_likely)
        self.room_left += request.new_tokens

    monkeypatch.setattr(Residents, "join", for_free)
    assert "law 6" in caught()


def test_catches_a_step_that_breaks_the_slo_between_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ResidentLane, "_most_s", lambda self, place, now: float("inf"))
    assert "law 8" in caught()


def test_catches_overtaking(monkeypatch: pytest.MonkeyPatch) -> None:
    in_line = ResidentLane._in_line
    monkeypatch.setattr(ResidentLane, "_in_line", lambda self, place: in_line(self, place)[::-1])
    assert "law 7" in caught()


def test_catches_a_low_priority_that_takes_more_than_its_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    in_line = ResidentLane._in_line
    monkeypatch.setattr(
        ResidentLane,
        "_in_line",
        lambda self, place: sorted(in_line(self, place), key=lambda r: (-r.priority, r.deadline_at, r.id)),
    )
    assert "law 7" in caught()


def test_catches_chunks_that_are_cut_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    stop = Plan._stop
    monkeypatch.setattr(Plan, "_stop", lambda self, length, start: max(start + 1, stop(self, length, start) - 1))
    assert "law 5" in caught()


def test_catches_a_failed_step_that_is_repeated_in_company(monkeypatch: pytest.MonkeyPatch) -> None:
    fail = ResidentLane.fail

    def forgiving(self, iteration, detail):  # type: ignore[no-untyped-def]
        actions = fail(self, iteration, detail)
        self.places[iteration.instance].suspects.clear()
        return actions

    monkeypatch.setattr(ResidentLane, "fail", forgiving)
    assert "alone" in caught()


def test_catches_a_slot_that_is_given_away_too_early(monkeypatch: pytest.MonkeyPatch) -> None:
    handle = Scheduler.handle

    def hasty(self, event, now):  # type: ignore[no-untyped-def]
        return sorted(handle(self, event, now), key=lambda action: not isinstance(action, Iterate))

    monkeypatch.setattr(Scheduler, "handle", hasty)
    assert "law 6" in caught()


def test_catches_an_idle_instance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ResidentLane, "is_ready", lambda self, now: self.idle > 0 and bool(self.waiting))
    assert "is idle while" in caught()
