"""Decoding before the step that wants it is known: what it saves, what it must not take up, and what becomes of it when the step is another one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

pytest.importorskip("onnx")

from server.backends.base import Array, BatchError
from server.backends.decoding import Decoder, Row
from server.backends.onnx_decoder import OnnxDecoderBackend
from server.core.types import Chunk
from tests.decoders import TinyDecoder, write_decoder
from tests.server.generation.test_stepper import SLOTS, Failing, Scene, prompt, whole

TINY = TinyDecoder()


class Counting(Failing):
    """Remembers whose rows were decoded in each call."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__(decoder)
        self.calls: list[list[int]] = []

    def decode(self, rows: Sequence[Row]) -> Array:
        self.calls.append([row.slot for row in rows])
        return super().decode(rows)


@pytest.fixture
def decoder(tmp_path: Path) -> Iterator[Counting]:
    made = Counting(OnnxDecoderBackend().load(write_decoder(tmp_path, TINY), TINY.generation, SLOTS, threads=1))
    yield made
    made.close()


def assert_alone(scene: Scene, *prompts: Array) -> None:
    for number, ids in enumerate(prompts):
        tokens = scene.tokens[number]
        assert tokens == TINY.greedy(ids.tolist(), len(tokens))


def test_a_step_takes_what_was_decoded_before_it(decoder: Counting) -> None:
    scene = Scene(decoder)
    a, b = scene.ask(0, prompt(10)), scene.ask(1, prompt(20, 1))
    assert not scene.step(whole(a), whole(b)).went_on
    for _ in range(4):
        scene.stepper.go_on()
        scene.stepper.go_on()
        assert scene.step(a, b).went_on
    assert decoder.calls == [[0, 1]] * 4
    assert_alone(scene, a.payload.ids, b.payload.ids)


def test_nobody_is_decoded_who_has_all_tokens_or_none(decoder: Counting) -> None:
    scene = Scene(decoder)
    a, b, c = scene.ask(0, prompt(10), new_tokens=2), scene.ask(1, prompt(20, 1)), scene.ask(2, prompt(100, 2))
    scene.step(whole(a), whole(b))
    scene.step(a, b, Chunk(c, 0, 64))
    scene.stepper.go_on()
    assert decoder.calls[1:] == [[1]]
    scene.stepper.release([a])
    assert scene.step(b, Chunk(c, 64, 100)).went_on
    scene.stepper.release([b, c])
    scene.stepper.go_on()
    assert decoder.calls[1:] == [[1]], "nobody is left"
    assert_alone(scene, a.payload.ids, b.payload.ids, c.payload.ids)


def test_who_left_meanwhile_is_left_out(decoder: Counting) -> None:
    scene = Scene(decoder)
    a, b, c = (scene.ask(n, prompt(10 + n, n)) for n in range(3))
    scene.step(whole(a), whole(b), whole(c))
    scene.stepper.go_on()
    scene.stepper.release([b])
    stepped = scene.step(c, a)
    assert stepped.went_on
    assert [got.request for got in stepped.got] == [c, a]
    for _ in range(3):
        scene.stepper.go_on()
        scene.step(a, c)
    assert_alone(scene, a.payload.ids, b.payload.ids, c.payload.ids)
    assert decoder.calls == [[0, 1, 2], [1, 0], [0, 1], [0, 1]], "a hole is closed when the step before did not take it"


def test_a_newcomer_takes_the_slot_of_one_who_was_decoded_for_nothing(decoder: Counting) -> None:
    scene = Scene(decoder)
    a, b, c = scene.ask(0, prompt(10)), scene.ask(1, prompt(20, 1)), scene.ask(2, prompt(70, 2))
    scene.step(whole(a), whole(b))
    scene.stepper.go_on()
    scene.stepper.release([a])
    assert scene.step(b, whole(c)).went_on
    for _ in range(3):
        scene.stepper.go_on()
        scene.step(b, c)
    assert_alone(scene, a.payload.ids, b.payload.ids, c.payload.ids)
    assert decoder.calls == [[0, 1], [1, 0], [1, 0], [1, 0]]


def test_a_step_with_somebody_else_decodes_again(decoder: Counting) -> None:
    scene = Scene(decoder)
    a, b = scene.ask(0, prompt(10)), scene.ask(1, prompt(20, 1))
    scene.step(whole(a), whole(b))
    scene.step(a)  # as after a failed step
    scene.stepper.go_on()
    assert not scene.step(a, b).went_on
    scene.step(a, b)
    assert decoder.calls == [[0], [0], [0, 1], [0, 1]]
    assert_alone(scene, a.payload.ids, b.payload.ids)


@pytest.mark.parametrize("fails", ["decode", "sampling"])
def test_what_fails_then_fails_the_step_and_is_forgotten(decoder: Counting, fails: str) -> None:
    scene = Scene(decoder)
    a, b = scene.ask(0, prompt(10)), scene.ask(1, prompt(20, 1))
    scene.step(whole(a), whole(b))
    decoder.fails = fails
    scene.stepper.go_on()
    with pytest.raises(BatchError):
        scene.step(a, b)
    scene.stepper.go_on()
    decoder.fails = ""
    scene.step(a)
    scene.step(b)
    scene.step(a, b)
    assert_alone(scene, a.payload.ids, b.payload.ids)
    assert len(scene.tokens[0]) == len(scene.tokens[1]) == 3
