"""Measuring steps with a clock that only the fake decoder moves: exact figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from server.backends.base import Array, BatchError
from server.backends.decoding import Row
from server.backends.onnx_decoder import OnnxDecoderBackend
from server.contract.device import Device
from server.contract.profile import Placement
from server.contract.step_profile import StepProfile
from server.intake import steps
from server.intake.measure import Effort, Progress
from server.intake.steps import grid_contexts, measure_in_turns, measure_steps
from tests.decoders import TinyDecoder, write_decoder
from tests.server.intake.fakes import FakeTimer

DEVICE = Device("A chip", 2, "fake 1")
PLACE = Placement(1, 2)
QUICK = Effort(cell_s=0.0, n_least=3, n_most=3)
VOCABULARY = 50


@pytest.fixture
def timer(monkeypatch: pytest.MonkeyPatch) -> FakeTimer:
    timer = FakeTimer()
    monkeypatch.setattr(steps, "now", timer)
    return timer


class Lawful:
    """A decoder whose steps take 1 + rows + all context / 64 ms, and 2 + tokens / 8 ms for a chunk, on the test's clock. `slow_after`:
    from so many calls on, everything takes twice as long."""

    def __init__(self, timer: FakeTimer, slots: int, longest: int, slow_after: int = 1 << 30) -> None:
        self.timer, self.slots, self.longest, self.slow_after = timer, slots, longest, slow_after
        self.kept = np.zeros(slots, int)
        self.n_calls = 0

    def prefill(self, slots: Sequence[int], prompts: Sequence[Array], start: int) -> Array:
        assert start + len(prompts[0]) <= self.longest
        assert start <= self.kept[slots[0]]
        self.kept[slots[0]] = max(self.kept[slots[0]], start + len(prompts[0]))
        assert all(0 <= token < VOCABULARY for token in prompts[0])
        return self._took(2 + len(prompts[0]) / 8, 1)

    def decode(self, rows: Sequence[Row]) -> Array:
        for row in rows:
            assert 0 < row.n_kept < self.longest
            assert row.n_kept <= self.kept[row.slot], "what a step reads was written before"
        return self._took(1 + len(rows) + sum(row.n_kept for row in rows) / 64, len(rows))

    def copy(self, source: int, target: int, n_kept: int) -> None:
        assert n_kept <= self.kept[source]
        self.kept[target] = n_kept

    def close(self) -> None:
        raise AssertionError("who opened it closes it")

    def _took(self, time_ms: float, n_rows: int) -> Array:
        self.n_calls += 1
        self.timer.now_s += time_ms / 1000 * (2 if self.n_calls > self.slow_after else 1)
        return np.zeros((n_rows, VOCABULARY), np.float32)


def told(said: list[tuple[str, int, int]] | None = None) -> Progress:
    return lambda what, done, total: None if said is None else said.append((what, done, total))


def test_the_cells_are_rows_by_context_and_chunks_as_far_as_they_go(timer: FakeTimer) -> None:
    profile = measure_steps(Lawful(timer, 6, 300), PLACE, DEVICE, 300, told(), QUICK)
    assert (profile.placement, profile.device) == (PLACE, DEVICE)
    assert profile.measured_rows == (1, 2, 4)
    assert profile.measured_contexts == (64, 150, 299)
    for cell in profile.decode:
        assert math.isclose(cell.p50_s, (1 + cell.rows + cell.rows * cell.context / 64) / 1000)
        assert (math.isclose(cell.p99_s, cell.p50_s), cell.samples) == (True, 3)
    assert [cell.tokens for cell in profile.prefill] == [16, 32, 64, 128, 256]
    assert all(math.isclose(cell.p50_s, (2 + cell.tokens / 8) / 1000) for cell in profile.prefill)


@pytest.mark.parametrize(
    ("longest", "contexts"), [(4096, (64, 2048, 4095)), (128, (64, 127)), (64, (32, 63)), (2, (1,)), (3, (1, 2))]
)
def test_contexts_are_few_half_and_all(longest: int, contexts: tuple[int, ...]) -> None:
    assert grid_contexts(longest) == contexts


def test_effort_says_how_many_samples(timer: FakeTimer) -> None:
    effort = Effort(cell_s=0.3, n_least=6, n_most=30)
    profile = measure_steps(Lawful(timer, 32, 2048), PLACE, DEVICE, 2048, told(), effort)
    samples = {(cell.rows, cell.context): cell.samples for cell in profile.decode}
    assert samples[1, 64] == 30, "3 ms each: as many as are wanted at most"
    assert samples[32, 2047] == 6, "1 s each: as many as are needed at least"
    assert all(6 <= cell.samples <= 30 for cell in profile.prefill)


def test_a_disturbance_hits_all_cells_alike(timer: FakeTimer) -> None:
    n_calls = Lawful(timer, 2, 100)
    measure_steps(n_calls, PLACE, DEVICE, 100, told(), QUICK)
    disturbed = measure_steps(Lawful(timer, 2, 100, n_calls.n_calls * 3 // 4), PLACE, DEVICE, 100, told(), QUICK)
    calm = measure_steps(Lawful(timer, 2, 100), PLACE, DEVICE, 100, told(), QUICK)
    for mine, theirs in zip(disturbed.decode, calm.decode, strict=True):
        assert math.isclose(mine.p50_s, theirs.p50_s), "a round of three does not move a median"


def test_several_are_measured_in_turns(timer: FakeTimer) -> None:
    first, second = Lawful(timer, 4, 100), Lawful(timer, 8, 100, slow_after=0)
    said: list[tuple[str, int, int]] = []
    profiles = measure_in_turns([first, second], PLACE, DEVICE, 100, told(said), QUICK)
    assert [profile.measured_rows for profile in profiles] == [(1, 2, 4), (1, 2, 4)]
    for mine, theirs in zip(profiles[0].decode, profiles[1].decode, strict=True):
        assert math.isclose(2 * mine.p50_s, theirs.p50_s)
    assert said[-1] == ("prompts of 64 tokens", 35, 36)
    assert [done for _, done, _ in said[2:]] == list(range(36))


class Failing(Lawful):
    def decode(self, rows: Sequence[Row]) -> Array:
        raise BatchError("out of order")


def test_an_error_of_the_library_is_not_hidden(timer: FakeTimer) -> None:
    with pytest.raises(BatchError, match="out of order"):
        measure_steps(Failing(timer, 2, 100), PLACE, DEVICE, 100, told(), QUICK)


def test_measures_a_real_decoder(tmp_path: Path) -> None:
    tiny = TinyDecoder()
    decoder = OnnxDecoderBackend().load(write_decoder(tmp_path, tiny), tiny.generation, 4, 1)
    profile = measure_steps(decoder, PLACE, DEVICE, tiny.longest, told(), QUICK)
    decoder.close()
    assert StepProfile.from_json(profile.to_json(), "steps.json") == profile
    assert (profile.measured_rows, profile.measured_contexts) == ((1, 2, 4), (64, 128, 255))
